"""The lock of a directory of result tables: one process at a time writes them."""

from pathlib import Path
from typing import TextIO

from longtail.conf.base.locks import lock_file


def lock_tables(tables_dir: Path) -> TextIO:
    """Lock the tables until the returned file is closed, or the process ends. Creates the directory if necessary.

    Raises UserError if another process is writing them.
    """
    return lock_file(
        tables_dir / "lock",
        f"another process is writing the tables in {tables_dir}: read them, or choose another --output_dir",
    )
