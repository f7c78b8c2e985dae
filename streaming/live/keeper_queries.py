"""The queries that the keeper of the tables runs, with their inputs and outputs.

Each is one Spark action over a plan that is made once (streaming/live/prepared.py). Several small tables come from one
action: `runs_and_epochs`, and `event_tables`, the tables whose rows are events.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from longtail.streaming import queries
from longtail.streaming.alerts.query import find_alerts
from longtail.streaming.alerts.rules import AlertRules, AlertTables
from longtail.streaming.derived import DERIVED_TABLES, DerivedTable
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import ClassEvent, own_fields
from longtail.streaming.live.bundle import bundled
from longtail.streaming.live.prepared import PreparedQuery
from longtail.streaming.tables.schemas import TABLES

CLASS_KEY = ["run", "split", "class_id", "epoch"]
"""Identifies a row of class_epochs."""
RUNS_AND_EPOCHS = ("runs", "epochs")
ALERT_SOURCES = tuple(AlertTables.__dataclass_fields__)
CLASS_EVENT_SCHEMA = pa.schema([event_schema(ClassEvent).field(name) for name in own_fields(ClassEvent)])
SCORE_SCHEMA = pa.schema(
    [field for field in TABLES["class_epochs"] if field.name in CLASS_KEY or field.name not in own_fields(ClassEvent)]
)
"""The columns of class_epochs that Spark computes; the others are joined here instead of being sent there and back."""
RUN_EVENT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kind", "run", "phase", "state", "configuration", "message")]
    + [(name, pa.int64()) for name in ("attempt", "epoch", "num_epochs")]
    + [("emitted_at", pa.float64())]
)
"""The fields that queries.run_updates uses."""


def prepared_queries(spark: SparkSession, directory: Path, rules: AlertRules) -> dict[str, PreparedQuery]:
    """The queries of the result tables over the events of a batch and what the tables hold already, by name."""

    def prepared(name: str, query: Callable[..., DataFrame], **inputs: pa.Schema) -> PreparedQuery:
        return PreparedQuery(spark, query, inputs, directory=directory / name)

    def class_epochs(class_events: DataFrame, before: DataFrame) -> DataFrame:
        return queries.class_epochs(class_events, before).select(*SCORE_SCHEMA.names)

    def runs_and_epochs(
        run_events: DataFrame, runs: DataFrame, class_events: DataFrame, before_epochs: DataFrame
    ) -> DataFrame:
        return bundled(
            runs=queries.runs(queries.run_updates(run_events).unionByName(runs)),
            epochs=queries.epochs(queries.class_epochs(class_events), before_epochs),
        )

    def event_tables(**reports: DataFrame) -> DataFrame:
        return bundled(**{name: query(reports[name]) for name, (_, query) in queries.EVENT_TABLES.items()})

    def alerts(**tables: DataFrame) -> DataFrame:
        return find_alerts(AlertTables(**tables), rules)

    def derived(table: DerivedTable) -> Callable[..., DataFrame]:
        return lambda **sources: table.query(*(sources[name] for name in table.sources))

    return {
        "latest": prepared("latest", queries.latest_class_events, class_events=CLASS_EVENT_SCHEMA),
        "class_epochs": prepared(
            "class_epochs", class_epochs, class_events=CLASS_EVENT_SCHEMA, before=TABLES["class_epochs"]
        ),
        "runs_and_epochs": prepared(
            "runs_and_epochs",
            runs_and_epochs,
            run_events=RUN_EVENT_SCHEMA,
            runs=TABLES["runs"],
            class_events=CLASS_EVENT_SCHEMA,
            before_epochs=TABLES["epochs"],
        ),
        "event_tables": prepared("event_tables", event_tables, **schemas_of(*queries.EVENT_TABLES)),
        "alerts": prepared("alerts", alerts, **schemas_of(*ALERT_SOURCES)),
        **{
            name: prepared(name, derived(table), **schemas_of(*table.sources)) for name, table in DERIVED_TABLES.items()
        },
    }


def schemas_of(*names: str) -> dict[str, pa.Schema]:
    """The schemas of these result tables."""
    return {name: TABLES[name] for name in names}


def condensed_run_events(events: Mapping[str, pa.Table]) -> list[pa.Table]:
    """Events of all kinds with the fields of RUN_EVENT_SCHEMA; of events that differ only in time the first and last.

    events: by kind
    """
    condensed = []
    for of_kind in events.values():
        names = [name for name in RUN_EVENT_SCHEMA.names if name in of_kind.column_names and name != "emitted_at"]
        spans = of_kind.group_by(names).aggregate([("emitted_at", "min"), ("emitted_at", "max")])
        for end in ("min", "max"):
            part = spans.select([*names, f"emitted_at_{end}"])
            part = part.rename_columns([*names, "emitted_at"])
            condensed.append(pa.concat_tables([RUN_EVENT_SCHEMA.empty_table(), part], promote_options="default"))
    return condensed
