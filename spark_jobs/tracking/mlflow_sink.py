"""Copies runs to MLflow from the result tables: options, scores of each epoch, and what a finished run has written.

A run is one MLflow run, found again by the tags TAGS. What it has already is left out, so that a process that was
killed, and several that look at the same tables, log nothing twice.
docs/tracking.md lists what is logged.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from longtail.conf.base.files import scratch_directory
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import shortened
from longtail.spark_jobs.tracking.mlflow_server import mlflow_client
from longtail.spark_jobs.tracking.run_files import write_run_files
from longtail.streaming.events.schema import FAILED, FINISHED, INTERRUPTED
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SCORES = [field.name for field in TABLES["epochs"] if field.type == pa.float64() and field.name != "emitted_at"]
_MEASURED_ANEW = ("epoch_seconds", "images_per_second")
"""They differ when an attempt repeats an epoch, whose scores are the same."""
RUN_TAG, STARTED_TAG = "longtail.run", "longtail.started_at"
TAGS = (RUN_TAG, STARTED_TAG)
"""The run's name, and when it started: trainings of the same options on two machines have the same name."""
STATUSES = {FINISHED: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}
MOST_METRICS, MOST_PARAMETERS, MOST_CHARACTERS = 1000, 100, 490
"""Of one request, and of a parameter's value."""

Key = tuple[str, int, str]
"""Name, epoch and value of a metric."""


class MlflowSink:
    """update() copies what the tables in tables_dir say of runs, and what finished ones have in runs_dir."""

    def __init__(self, client: "MlflowClient", experiment: str, tables_dir: Path, runs_dir: Location) -> None:
        self._client, self._experiment, self._tables_dir, self._runs_dir = client, experiment, tables_dir, runs_dir
        self._ids: dict[tuple[str, str], str] = {}
        self._logged: dict[str, set[Key]] = {}

    def update(self, runs: Sequence[str]) -> None:
        """Bring these runs up to date. Runs that the tables do not have are left as they are."""
        for run in runs:
            for row in read_result_table(self._tables_dir, "runs", run).to_pylist():
                self._update(run, row)

    def _update(self, run: str, row: dict[str, Any]) -> None:
        known = self._run_of(run, row)
        run_id = known.info.run_id
        configuration = json.loads(row["configuration"] or "{}")
        self._log(run_id, self._new_parameters(known, configuration), self._new_metrics(run, run_id))
        status = STATUSES.get(row["status"], "RUNNING")
        if known.info.status == status:
            return
        if status == "FINISHED":
            # Before the status: whoever is killed meanwhile does it again.
            with scratch_directory(Path(tempfile.gettempdir()), "longtail-run") as files:
                write_run_files(self._runs_dir / run, files, arch=configuration.get("arch"))
                if any(files.iterdir()):
                    self._client.log_artifacts(run_id, str(files))
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status, _milliseconds(row["status_at"] or row["updated_at"]))

    def _run_of(self, run: str, row: dict[str, Any]) -> "Run":
        """The MLflow run, made if it is not there."""
        started = f"{row['started_at']:.6f}"
        if (run_id := self._ids.get((run, started))) is None:
            values: dict[str, str] = dict(zip(TAGS, (run, started), strict=True))
            if not (found := self._found(values)):
                self._client.create_run(
                    self._experiment,
                    start_time=_milliseconds(row["started_at"]),
                    tags={**values, "longtail.phase": row["phase"]},
                    run_name=run,
                )
                # Another process may have made one at the same time: both go on with the first.
                found = self._found(values)
            run_id = self._ids[run, started] = found[0]
        return self._client.get_run(run_id)

    def _found(self, tags: dict[str, str]) -> list[str]:
        condition = " and ".join(f"tags.\"{name}\" = '{value}'" for name, value in tags.items())
        ids = sorted(found.info.run_id for found in self._client.search_runs([self._experiment], condition))
        for superfluous in ids[1:]:
            self._client.delete_run(superfluous)
        return ids[:1]

    def _new_parameters(self, known: "Run", configuration: dict[str, Any]) -> dict[str, str]:
        """MLflow's parameters never change: an option that a later attempt has changed keeps its first value."""
        return {
            name: shortened(str(value), MOST_CHARACTERS)
            for name, value in configuration.items()
            if value is not None and name not in known.data.params
        }

    def _new_metrics(self, run: str, run_id: str) -> dict[Key, int]:
        """Milliseconds of each metric that the MLflow run does not have."""
        if run_id not in self._logged:
            self._logged[run_id] = self._history(run_id)
        logged = self._logged[run_id]
        once = {(name, epoch) for name, epoch, _ in logged if name.endswith(_MEASURED_ANEW)}
        epochs = read_result_table(self._tables_dir, "epochs", run, columns=["split", "epoch", "emitted_at", *SCORES])
        found = {}
        for row in epochs.sort_by([("epoch", "ascending"), ("split", "ascending")]).to_pylist():
            for name in SCORES:
                key = (f"{row['split']}/{name}", row["epoch"], repr(row[name]))
                if row[name] is not None and key not in logged and key[:2] not in once:
                    found[key] = _milliseconds(row["emitted_at"])
        return found

    def _history(self, run_id: str) -> set[Key]:
        names = self._client.get_run(run_id).data.metrics
        return {
            (name, metric.step, repr(metric.value))
            for name in names
            for metric in self._client.get_metric_history(run_id, name)
        }

    def _log(self, run_id: str, parameters: dict[str, str], metrics: dict[Key, int]) -> None:
        from mlflow.entities import Metric, Param

        for some in _parts(list(parameters.items()), MOST_PARAMETERS):
            self._client.log_batch(run_id, params=[Param(name, text) for name, text in some])
        for part in _parts(list(metrics.items()), MOST_METRICS):
            values = [Metric(name, float(value), moment, epoch) for (name, epoch, value), moment in part]
            self._client.log_batch(run_id, metrics=values)
            self._logged[run_id].update(key for key, _ in part)


@contextmanager
def mlflow_sink(given: str, *, tables_dir: Path, runs_dir: Location) -> Iterator[MlflowSink]:
    """The sink for the value of --mlflow. Raises UserError as mlflow_client does."""
    with mlflow_client(given) as (client, experiment):
        yield MlflowSink(client, experiment, tables_dir, runs_dir)


def _parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[first : first + size] for first in range(0, len(values), size))


def _milliseconds(seconds: float) -> int:
    return math.floor(1000 * seconds)
