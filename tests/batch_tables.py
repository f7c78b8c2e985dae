"""All result tables computed from all events at once: the reference for the tables that the live query updates."""

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from longtail.streaming import queries
from longtail.streaming.alerts.finding import find_alerts
from longtail.streaming.alerts.rule import AlertTables
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.derived import DERIVED_TABLES
from longtail.streaming.events.schema import ClassEvent
from longtail.streaming.parsing.lines import bad_lines, good_events, parsed_events, quarantined
from longtail.streaming.tables.schemas import TABLES


def tables_of(lines: DataFrame, rules: AlertRules) -> dict[str, pa.Table]:
    """By name (see streaming/tables/schemas.py). lines: value, source."""
    parsed = parsed_events(lines)
    events = good_events(parsed)
    classes = queries.class_epochs(queries.latest_class_events(queries.events_of(events, ClassEvent)))
    frames = {
        "runs": queries.runs(queries.run_updates(events)),
        "class_epochs": classes,
        "epochs": queries.epochs(classes),
        "quarantine": quarantined(bad_lines(parsed)),
        **{name: query(queries.events_of(events, kind)) for name, (kind, query) in queries.EVENT_QUERIES.items()},
    }
    return with_derived_tables({name: frame.toArrow() for name, frame in frames.items()}, rules)


def with_derived_tables(tables: dict[str, pa.Table], rules: AlertRules) -> dict[str, pa.Table]:
    """With the derived tables and alerts of all runs, from their whole tables."""
    found = dict(tables)
    for name, derived in DERIVED_TABLES.items():
        runs = tables[derived.sources[0]]["run"].unique().to_pylist()
        parts = [derived.query(*(_of_run(tables[source], run) for source in derived.sources)) for run in runs]
        found[name] = pa.concat_tables([TABLES[name].empty_table(), *parts])
    sources = AlertTables.__dataclass_fields__
    alerts = [
        alert
        for run in sorted({run for source in sources for run in found[source]["run"].to_pylist()})
        for alert in find_alerts(run, AlertTables(*(_of_run(found[source], run) for source in sources)), rules)
    ]
    return {**found, "alerts": pa.Table.from_pylist(alerts, schema=TABLES["alerts"])}


def _of_run(table: pa.Table, run: str) -> pa.Table:
    return table.filter(pc.equal(table["run"], run))
