"""Standard output that nobody reads any more, as after `longtail help train | head`."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READER_GONE = 141
"""Exit status that shells give a program that SIGPIPE ended."""


@contextmanager
def ending_with_its_reader() -> Iterator[None]:
    """Exit without a word if the reader of standard output goes during the block, whatever ends that."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # otherwise Python complains as it ends
    except BrokenPipeError:
        if not reader_is_gone():
            raise  # another pipe broke, as one to Spark
        sys.exit(READER_GONE)


def reader_is_gone() -> bool:
    """Whether nothing can be written any more; then what is left is dropped."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # no file of the system, as in notebooks
        return False
    poll = select.poll()
    poll.register(output, 0)  # errors are always reported
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True
