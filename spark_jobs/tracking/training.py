"""Logs a training in MLflow while it runs, on the driver: result tables of its events, and the sink for them."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from longtail.conf.base.files import scratch_directory
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.tracking.background import Background
from longtail.spark_jobs.tracking.mlflow_server import mlflow_client
from longtail.spark_jobs.tracking.mlflow_sink import mlflow_sink
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.events.files import event_files_of, name_in
from longtail.streaming.live.batches import update_by_files
from longtail.streaming.live.keeper import TableKeeper
from longtail.training.run_directory import RunPaths


def check_tracking(options: RunOptions) -> None:
    """Raise UserError if the run cannot be logged where --mlflow says."""
    if options.mlflow is not None:
        with mlflow_client(options.mlflow):
            pass


@contextmanager
def tracked(spark: SparkSession, options: RunOptions, paths: RunPaths) -> Iterator[None]:
    """Log the run in MLflow until the end of the block, if --mlflow is given; what fails stops no training."""
    if options.mlflow is None:
        yield
        return
    run = paths.run_dir.name
    with (
        scratch_directory(Path(tempfile.gettempdir()), "longtail-tables") as tables_dir,
        mlflow_sink(options.mlflow, tables_dir=tables_dir, runs_dir=paths.run_dir.parent) as sink,
    ):
        keeper = TableKeeper(spark, tables_dir, AlertRules())
        seen: set[str] = set()
        is_logged = False

        def log_new() -> None:
            nonlocal is_logged
            names = [name_in(paths.events_dir, file) for file in event_files_of(paths.events_dir, run)]
            if new := [name for name in names if name not in seen]:
                for _ in update_by_files(keeper, paths.events_dir, new):
                    pass
                seen.update(new)
                is_logged = False
            if not is_logged:
                sink.update([run])
                is_logged = True

        background = Background(log_new, name="MLflow")
        try:
            yield
        finally:
            failure = background.close()
            keeper.close()
            if failure is not None:
                print(
                    f"longtail: MLflow does not have all of {run} ({failure}): `longtail monitor --once --mlflow URI "
                    f"--runs_dir {paths.run_dir.parent}` logs the rest",
                    file=sys.stderr,
                )
