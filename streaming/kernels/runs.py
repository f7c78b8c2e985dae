"""The states of runs, as streaming/queries.py defines them, from the few events that contain them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from longtail.streaming.events.schema import END_STATES, OF_NO_TRAINING, RunEvent, StepEvent
from longtail.streaming.tables.schemas import RUNNING, TABLES

_FIELDS = ("kind", "run", "attempt", "phase", "state", "epoch", "num_epochs", "configuration", "message")

Row = dict[str, Any]


def run_rows(events: Mapping[str, pa.Table], known: Iterable[Row]) -> dict[str, Row]:
    """The row of each run that has training events; by run.

    events: by kind; known: rows for earlier events
    """
    updates: dict[str, list[Row]] = defaultdict(list)
    for row in known:
        updates[row["run"]].append(row)
    for kind, of_kind in events.items():
        if kind not in OF_NO_TRAINING:
            for event in _condensed(of_kind):
                updates[event["run"]].append(_update(event))
    return {run: _combined(run, rows) for run, rows in updates.items()}


def _condensed(events: pa.Table) -> list[Row]:
    """The events without what no run's state depends on; of those that differ only in time the first and the last."""
    names = [name for name in _FIELDS if name in events.column_names]
    spans = (
        events.group_by(names, use_threads=False).aggregate([("emitted_at", "min"), ("emitted_at", "max")]).to_pylist()
    )
    return [{**span, "emitted_at": span[end]} for span in spans for end in ("emitted_at_min", "emitted_at_max")]


def _update(event: Row) -> Row:
    """An event as a row of `runs` with all it contributes."""
    is_run = event["kind"] == RunEvent.kind
    status = event["state"] if is_run and event["state"] in END_STATES else RUNNING
    return {
        "attempt": event["attempt"],
        "phase": event["phase"],
        "status": status if is_run else None,
        "started_at": event["emitted_at"],
        "updated_at": event["emitted_at"],
        # The epoch of a step is not finished.
        "epoch": event.get("epoch") if event["kind"] != StepEvent.kind else None,
        "num_epochs": event.get("num_epochs"),
        "configuration": event.get("configuration"),
        "message": event.get("message"),
        "status_at": event["emitted_at"] if is_run else None,
    }


def _combined(run: str, updates: list[Row]) -> Row:
    attempt = max(row["attempt"] for row in updates)
    of_latest = [row for row in updates if row["attempt"] == attempt]

    def largest(name: str) -> Any:
        return max((row[name] for row in of_latest if row[name] is not None), default=None)

    last = max((row for row in updates if row["status"] is not None), key=_state_order, default=None)
    is_valid = last is not None and last["attempt"] == attempt
    row = {
        "run": run,
        "attempt": attempt,
        "phase": largest("phase"),
        "status": last["status"] if last and is_valid else RUNNING,
        "started_at": min(row["started_at"] for row in updates),
        "updated_at": max(row["updated_at"] for row in updates),
        "epoch": largest("epoch"),
        "num_epochs": largest("num_epochs"),
        "configuration": last["configuration"] if last else None,
        "message": last["message"] if last and is_valid else "",
        "status_at": last["status_at"] if last and is_valid else None,
    }
    return {name: row[name] for name in TABLES["runs"].names}


def _state_order(row: Row) -> tuple[Any, ...]:
    """An end counts more than that a run goes on, whatever the clocks say, and of several ends the first of them."""
    weight = 1 + END_STATES.index(row["status"]) if row["status"] in END_STATES else 0
    values = [row[name] for name in ("status_at", "status", "configuration", "message")]
    # Null comes first.
    return (row["attempt"], weight, *((value is not None, "" if value is None else value) for value in values))
