"""All result tables computed from all events at once: the reference for the tables that the live query updates."""

from pyspark.sql import DataFrame

from longtail.streaming import queries
from longtail.streaming.alerts.query import find_alerts
from longtail.streaming.alerts.rules import AlertRules, AlertTables
from longtail.streaming.derived import DERIVED_TABLES
from longtail.streaming.events.schema import ClassEvent
from longtail.streaming.parsing.lines import bad_lines, good_events, parsed_events, quarantined


def tables_of(lines: DataFrame, rules: AlertRules) -> dict[str, DataFrame]:
    """By name (see streaming/tables/schemas.py). lines: value, source."""
    parsed = parsed_events(lines)
    events = good_events(parsed)
    classes = queries.class_epochs(queries.latest_class_events(queries.events_of(events, ClassEvent)))
    tables = {
        "runs": queries.runs(queries.run_updates(events)),
        "class_epochs": classes,
        "epochs": queries.epochs(classes),
        "quarantine": quarantined(bad_lines(parsed)),
    }
    for name, (kind, query) in queries.EVENT_TABLES.items():
        tables[name] = query(queries.events_of(events, kind))
    for name, derived in DERIVED_TABLES.items():
        tables[name] = derived.query(*(tables[source] for source in derived.sources))
    sources = AlertTables(*(tables[name] for name in AlertTables.__dataclass_fields__))
    return {**tables, "alerts": find_alerts(sources, rules)}
