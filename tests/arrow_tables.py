"""The result tables of events by the kernels, without Spark."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import (
    EVENT_KINDS,
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    StepEvent,
)
from longtail.streaming.kernels.newest import EVENT_KERNELS, latest_class_events_table
from longtail.streaming.kernels.runs import run_rows
from longtail.streaming.kernels.scores import class_epochs_table, epochs_table
from longtail.streaming.live.arrow_rows import last_rows
from longtail.streaming.tables.schemas import TABLES
from tests.batch_tables import with_derived_tables

KINDS = {
    "confusion": ConfusionEvent, "steps": StepEvent, "pseudo_labels": PseudoLabelEvent, "predictions": PredictionEvent,
}  # fmt: skip


def arrow_tables(
    events: Sequence[Event], rules: AlertRules | None = None, *, first_epoch: int = 1
) -> dict[str, pa.Table]:
    """All result tables but the quarantine; scores from `first_epoch` on separately, with what is known of the epochs
    before."""
    tables = {
        name: query(_table_of(events, KINDS[name]).select(TABLES[name].names)) for name, query in EVENT_KERNELS.items()
    }
    newest = latest_class_events_table(_table_of(events, ClassEvent))
    classes, of_epochs = TABLES["class_epochs"].empty_table(), TABLES["epochs"].empty_table()
    for is_part in (pc.less(newest["epoch"], first_epoch), pc.greater_equal(newest["epoch"], first_epoch)):
        of_part = class_epochs_table(newest.filter(is_part), last_rows(classes, ["run", "split", "class_id"]))
        of_epochs = pa.concat_tables([of_epochs, epochs_table(of_part, last_rows(of_epochs, ["run", "split"]))])
        classes = pa.concat_tables([classes, of_part])
    tables |= {"class_epochs": classes, "epochs": of_epochs}
    half = len(events) // 2
    known = run_rows({name: _table_of(events[:half], kind) for name, kind in EVENT_KINDS.items()}, [])
    states = run_rows({name: _table_of(events[half:], kind) for name, kind in EVENT_KINDS.items()}, known.values())
    tables["runs"] = pa.Table.from_pylist([*states.values()], schema=TABLES["runs"])
    return with_derived_tables(tables, rules or AlertRules())


def _table_of(events: Sequence[Event], kind: type[Event]) -> pa.Table:
    rows = [asdict(event) for event in events if isinstance(event, kind)]
    return pa.Table.from_pylist(rows, schema=event_schema(kind))
