"""The log of a run: what happened in each of its attempts, in words and with times.

    RUNS_DIR/NAME/attempts/001.log

Rank 0 writes it while it trains; the driver adds why an attempt ended, which a killed rank cannot say. It is bounded:
of each attempt the last MOST_BYTES, and of a run the last MOST_LOGS attempts. Secrets are left out as in all texts
that are saved (conf/base/shown_text.py).

This module does not import torch, so that a Spark driver can use it without.
"""

import os
import platform
import time
import traceback
from collections import deque
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_for_reading, write_text_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import printable, redacted, shortened
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import SPLITS
from longtail.data.manifest import Manifest

if TYPE_CHECKING:
    from longtail.training.distributed import Rank

ATTEMPTS_DIRECTORY = "attempts"
"""In a run's directory: the record of each attempt, and its log."""
MOST_BYTES = 256 * 1024
MOST_LOGS = 4
_CUT = "... (earlier lines are left out)"


class RunLog:
    """The log of one attempt. What cannot be written, as on a full disk, is no reason to end a training."""

    def __init__(self, run_dir: Location, *, attempt: int) -> None:
        self._file = run_dir / ATTEMPTS_DIRECTORY / f"{attempt:03d}.log"
        self._lines: deque[str] = deque()
        with suppress(OSError, UserError):
            self._lines.extend(_lines_of(self._file))
        self._num_bytes = sum(map(_size, self._lines))

    def add(self, text: str) -> None:
        """Add a text under the present time; its further lines are indented."""
        first, *others = redacted(text).splitlines() or [""]
        for line in [f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {first}", *(f"    {other}" for other in others)]:
            self._lines.append(shortened(printable(line)))
            self._num_bytes += _size(self._lines[-1])
        is_cut = self._num_bytes > MOST_BYTES
        while self._num_bytes + len(_CUT) + 1 > MOST_BYTES and is_cut:
            self._num_bytes -= _size(self._lines.popleft())
        if is_cut:
            self._lines.appendleft(_CUT)
            self._num_bytes += _size(_CUT)
        with suppress(OSError, UserError):
            write_text_atomically(self._file, "".join(f"{line}\n" for line in self._lines))

    def began(self, options: RunOptions, manifest: Manifest, rank: "Rank", *, first_epoch: int) -> None:
        """Say with what the attempt runs, where, and on which data."""
        import torch  # a rank has it

        device = torch.cuda.get_device_name(rank.device) if rank.device.type == "cuda" else rank.device.type
        ranks = f"{options.world_size} rank{'s' * (options.world_size > 1)}"
        self.add(
            f"{options.phase}, {ranks}, {device} of {platform.node()}: longtail {_installed('longtail')}, "
            f"torch {torch.__version__}, Python {platform.python_version()}"
        )
        sizes = ", ".join(f"{manifest.num_images(split):,} {split}" for split in SPLITS if manifest.num_images(split))
        self.add(f"{manifest.dataset}, {manifest.num_classes} classes: {sizes}")
        if first_epoch:
            self.add(f"goes on after epoch {first_epoch}")

    def ended(self, error: BaseException | None) -> None:
        """Say how rank 0 ended: finished, stopped by the user, refused, or failed, with the stack trace."""
        if error is None:
            self.add("finished")
        elif isinstance(error, KeyboardInterrupt):
            self.add("interrupted")
        elif isinstance(error, UserError):
            self.add(f"ended: {error}")
        else:
            self.add("failed\n" + "".join(traceback.format_exception(error)))


def read_log(run_dir: Location) -> str:
    """The logs of a run's last attempts, in their order; empty if there is none.

    Of each file at most MOST_BYTES, whoever wrote it. A link, which may lead anywhere, is not read. Raises OSError.
    """
    files = sorted((run_dir / ATTEMPTS_DIRECTORY).glob("*.log"))[-MOST_LOGS:]
    return "".join(f"{printable(line)}\n" for file in files for line in _lines_of(file))


def remove_old_logs(run_dir: Location) -> None:
    """Make room for the log of another attempt."""
    files = sorted((run_dir / ATTEMPTS_DIRECTORY).glob("*.log"))
    for file in files[: max(0, len(files) - MOST_LOGS + 1)]:
        file.unlink(missing_ok=True)


def _lines_of(file: Location) -> list[str]:
    if not file.is_file() or (isinstance(file, Path) and file.is_symlink()):
        return []
    with open_for_reading(file) as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(max(0, size - MOST_BYTES))
        lines = content.read(MOST_BYTES).decode(errors="replace").splitlines()
    return lines if size <= MOST_BYTES else [_CUT, *lines[1:]]


def _installed(package: str) -> str:
    with suppress(PackageNotFoundError):  # shipped as an archive
        return version(package)
    return "as shipped"


def _size(line: str) -> int:
    return len(line.encode(errors="replace")) + 1
