"""Checkpoints of a run to download from the page: /checkpoint?run=NAME&of=last, or of=best.

A request names a run that the tables have and one of the two; no part of it becomes the name of another file.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO

ADDRESS = "/checkpoint"
LAST, BEST = "last", "best"
"""The checkpoint after the last finished epoch, and after the best one on validation images."""
_BLOCK_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """A checkpoint, open for reading, or why there is none.

    name: of the file in the run's directory; size: in bytes
    """

    name: str = ""
    size: int = 0
    content: IO[bytes] | None = None
    problem: str | None = None

    def parts(self) -> Iterator[bytes]:
        """The content, ``size`` bytes of it, in blocks; the file is closed at their end."""
        assert self.content is not None, "there is one"
        with closing(self.content) as content:
            left = self.size
            while left and (block := content.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block
