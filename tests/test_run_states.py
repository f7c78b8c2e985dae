"""The states of runs that the live query computes are those of the definition in Spark."""

import dataclasses

import pyarrow as pa
from pyspark.sql import SparkSession

from longtail.streaming import queries
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import EVENT_KINDS, ClassEvent, RunEvent, StepEvent, spark_ddl
from longtail.streaming.kernels.runs import run_rows
from tests.analytics import rounded
from tests.events import PLAIN, an_event
from tests.frames import frame_of

EVENTS = [
    *PLAIN.values(),
    *(an_event(ClassEvent, class_id=c, emitted_at=900.0 + c) for c in range(5)),
    an_event(ClassEvent, epoch=2, attempt=2, emitted_at=2000.0),
    an_event(RunEvent, state="failed", message="no room", emitted_at=1500.0, attempt=2),
    an_event(StepEvent, epoch=3, emitted_at=2500.0, attempt=2),
    an_event(StepEvent, run="other", emitted_at=9.0),
    an_event(StepEvent, run="other", emitted_at=7.0),
    an_event(StepEvent, run="alone", emitted_at=0.0),
]


def test_events_of_all_kinds_tell_where_their_runs_stand(spark: SparkSession) -> None:
    rows = [dataclasses.asdict(event) for event in EVENTS]
    by_kind = {
        name: pa.Table.from_pylist([row for row in rows if row["kind"] == name], schema=event_schema(kind))
        for name, kind in EVENT_KINDS.items()
    }
    names = [column.partition(" ")[0] for column in spark_ddl().split(", ")]
    whole = frame_of(spark, [tuple(row.get(name) for name in names) for row in rows], spark_ddl())

    found = list(run_rows(by_kind, []).values())

    expected = queries.runs(queries.run_updates(whole)).toArrow().to_pylist()
    assert len(found) == 3
    assert rounded(found, list(found[0])) == rounded(expected, list(found[0]))
