"""Work beside a job, which must not end because of it: a server may be slow, or away for hours."""

import sys
import threading
from collections.abc import Callable

from longtail.spark_jobs.tracking.mlflow_server import reason_of

SECONDS = 2.0


class Background:
    """Calls ``work`` every SECONDS from a thread of its own. What fails is said once, and the next call goes on."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work, self._name = work, name
        self._said: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> str | None:
        """Call ``work`` a last time; why it failed, or None."""
        self._stop.set()
        self._thread.join()
        return self._try()

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            if (reason := self._try()) is not None and reason != self._said:
                print(f"longtail: {self._name}: {reason}; it is tried again", file=sys.stderr, flush=True)
                self._said = reason

    def _try(self) -> str | None:
        try:
            self._work()
            self._said = None
            return None
        except Exception as error:  # noqa: BLE001 - whatever the server's client or a store's driver raises
            return reason_of(error)
