"""Logs the runs that a monitor sees in MLflow, beside its live query."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.options.live import MonitorOptions
from longtail.spark_jobs.tracking.background import Background
from longtail.spark_jobs.tracking.mlflow_sink import MlflowSink, mlflow_sink


@contextmanager
def logged_runs(
    options: MonitorOptions, tables_dir: Path, *, also: Callable[[list[str]], None]
) -> Iterator[Callable[[list[str]], None]]:
    """A function that takes the names of runs whose tables have changed; they are logged until the end of the block.

    also: called with the names, whether --mlflow is given or not

    Raises UserError if the server does not answer, at the beginning or at the end.
    """
    if options.mlflow is None:
        yield also
        return
    with mlflow_sink(options.mlflow, tables_dir=tables_dir, runs_dir=options.runs_dir) as sink:
        waiting = _Waiting(sink)

        def add(runs: list[str]) -> None:
            waiting.add(runs)
            also(runs)

        background = Background(waiting.log, name="MLflow")
        try:
            yield add
        finally:
            failure = background.close()
        if failure is not None:
            raise UserError(f"MLflow does not have everything ({failure}): the same command logs the rest")


class _Waiting:
    """Runs that are still to be logged; one that cannot be holds up no other."""

    def __init__(self, sink: MlflowSink) -> None:
        self._sink, self._lock = sink, threading.Lock()
        self._runs: dict[str, None] = {}

    def add(self, runs: Sequence[str]) -> None:
        with self._lock:
            self._runs |= dict.fromkeys(runs)

    def log(self) -> None:
        with self._lock:
            runs, self._runs = self._runs, {}
        failure: Exception | None = None
        for run in runs:
            try:
                self._sink.update([run])
            except Exception as error:  # noqa: BLE001 - as in Background, which reports the last one
                failure = error
                self.add([run])
        if failure is not None:
            raise failure
