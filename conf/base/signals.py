"""Signals that end a command."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM, by which schedulers and `kill` end a process, does what Ctrl-C does.

    So jobs stop in order and report it. A second SIGTERM ends the process at once. No effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:  # a forked child: it ends as if there were no handler
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # Spark's own handler cancels the jobs. A command that the shell put in the background ignores Ctrl-C.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
