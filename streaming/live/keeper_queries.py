"""The queries that streaming/live/keeper.py asks Spark: what goes in, and what comes out.

Each is an action over a plan that is made once (streaming/live/prepared.py). Several small tables come from one action:
standing, where the runs and their epochs stand, and reports, what events of the other kinds tell.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.alerts import AlertRules
from longtail.streaming import queries
from longtail.streaming.alerts import alerts
from longtail.streaming.events.schema import ClassEvent, ConfusionEvent, Event, PseudoLabelEvent, StepEvent
from longtail.streaming.live.bundle import bundled
from longtail.streaming.live.prepared import PreparedQuery
from longtail.streaming.tables.store import TABLES
from longtail.streaming.unlabeled import pseudo_labels as labels_of
from longtail.streaming.unlabeled import unlabeled

CLASS_KEY = ["run", "split", "class_id", "epoch"]
"""Names a row of class_epochs."""
REPORT_TABLES: dict[str, type[Event]] = {
    "confusion": ConfusionEvent,
    "steps": StepEvent,
    "pseudo_labels": PseudoLabelEvent,
}
"""Tables whose rows are what the events of one kind tell."""
STANDING_TABLES = ("runs", "epochs")
_SIGNS = pa.schema(
    [(name, pa.string()) for name in ("kind", "run", "phase", "state", "configuration", "message")]
    + [(name, pa.int64()) for name in ("attempt", "epoch", "num_epochs")]
    + [("emitted_at", pa.float64())]
)
"""What queries.run_signs looks at."""
FACTS = pa.schema([field for field in TABLES["class_epochs"] if field.name in queries.own_fields(ClassEvent)])
"""What a class event says."""
SCORES = pa.schema(
    [field for field in TABLES["class_epochs"] if field.name in CLASS_KEY or field.name not in FACTS.names]
)
"""What Spark makes of that: the rest stays here and is not sent there and back."""


def prepared_queries(spark: SparkSession, directory: Path, rules: AlertRules) -> dict[str, PreparedQuery]:
    """The queries of streaming/queries.py and its like over what a batch brings and what is known already."""

    def prepared(name: str, query: Callable[..., DataFrame], **inputs: pa.Schema) -> PreparedQuery:
        return PreparedQuery(spark, query, inputs, directory=directory / name)

    def class_epochs(events: DataFrame, before: DataFrame) -> DataFrame:
        return queries.class_epochs(events, before).select(*SCORES.names)

    def standing(signs: DataFrame, runs: DataFrame, class_events: DataFrame, before_epochs: DataFrame) -> DataFrame:
        return bundled(
            runs=queries.runs(queries.run_signs(signs).unionByName(runs)),
            epochs=queries.epochs(queries.class_epochs(class_events), before_epochs),
        )

    def reports(confusion: DataFrame, steps: DataFrame, pseudo_labels: DataFrame) -> DataFrame:
        return bundled(
            confusion=queries.confusion(confusion), steps=queries.steps(steps), pseudo_labels=labels_of(pseudo_labels)
        )

    def found_alerts(class_epochs: DataFrame, epochs: DataFrame, steps: DataFrame, unlabeled: DataFrame) -> DataFrame:
        return alerts(class_epochs, epochs, steps, unlabeled, rules)

    def of_unlabeled(pseudo_labels: DataFrame, confusion: DataFrame, class_epochs: DataFrame) -> DataFrame:
        return unlabeled(pseudo_labels, confusion, class_epochs)

    return {
        "latest": prepared("latest", queries.latest_class_events, class_events=FACTS),
        "class_epochs": prepared("class_epochs", class_epochs, events=FACTS, before=TABLES["class_epochs"]),
        "standing": prepared(
            "standing",
            standing,
            signs=_SIGNS,
            class_events=FACTS,
            before_epochs=TABLES["epochs"],
            **schemas_of("runs"),
        ),
        "reports": prepared("reports", reports, **schemas_of(*REPORT_TABLES)),
        "unlabeled": prepared("unlabeled", of_unlabeled, **schemas_of("pseudo_labels", "confusion", "class_epochs")),
        "alerts": prepared("alerts", found_alerts, **schemas_of("class_epochs", "epochs", "steps", "unlabeled")),
    }


def schemas_of(*names: str) -> dict[str, pa.Schema]:
    return {name: TABLES[name] for name in names}


def signs_of(events: Mapping[str, pa.Table]) -> list[pa.Table]:
    """What run_signs looks at; of events that differ in their time alone the first and the last tell all."""
    signs = []
    for of_kind in events.values():
        names = [name for name in _SIGNS.names if name in of_kind.column_names and name != "emitted_at"]
        is_lost = pc.is_nan(of_kind["emitted_at"])
        spans = of_kind.filter(pc.invert(is_lost)).group_by(names)
        spans = spans.aggregate([("emitted_at", "min"), ("emitted_at", "max")])
        first, last = (spans.select([*names, f"emitted_at_{end}"]) for end in ("min", "max"))
        for told in (first, last, of_kind.filter(is_lost).select([*names, "emitted_at"])):
            told = told.rename_columns([*names, "emitted_at"])
            signs.append(pa.concat_tables([_SIGNS.empty_table(), told], promote_options="default"))
    return signs
