"""Downloads: whole and renamed, or not there at all."""

import shutil
import urllib.request
from pathlib import Path

from conf.errors import UserError
from conf.files import write_atomically

CONNECT_TIMEOUT_SECONDS = 10


def download(url: str, path: Path) -> None:
    """Fetch ``url`` to ``path``. Raises UserError (a clause, without a remedy) if it cannot be had."""

    def write(temporary: Path) -> None:
        with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_SECONDS) as response, temporary.open("wb") as file:
            shutil.copyfileobj(response, file)

    try:
        write_atomically(path, write)
    except OSError as error:  # urllib's errors and time-outs are OSErrors
        raise UserError(f"{url} cannot be downloaded ({getattr(error, 'reason', error)})") from None
