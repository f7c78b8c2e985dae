"""All result tables from all events at once: what the live query keeps up to date, computed anew."""

from pyspark.sql import DataFrame

from longtail.conf.alerts import AlertRules
from longtail.streaming import queries
from longtail.streaming.alerts import alerts
from longtail.streaming.events.schema import ClassEvent, ConfusionEvent, PseudoLabelEvent, StepEvent
from longtail.streaming.parsing.lines import bad_lines, good_events, parsed_events
from longtail.streaming.unlabeled import pseudo_labels, unlabeled


def tables_of(lines: DataFrame, rules: AlertRules) -> dict[str, DataFrame]:
    """By name (see streaming/tables/store.py). lines: value, source."""
    parsed = parsed_events(lines)
    events = good_events(parsed)
    classes = queries.class_epochs(queries.latest_class_events(queries.events_of(events, ClassEvent)))
    summaries = queries.epochs(classes)
    cells = queries.confusion(queries.events_of(events, ConfusionEvent))
    steps = queries.steps(queries.events_of(events, StepEvent))
    labels = pseudo_labels(queries.events_of(events, PseudoLabelEvent))
    of_unlabeled = unlabeled(labels, cells, classes)
    return {
        "runs": queries.runs(queries.run_signs(events)),
        "class_epochs": classes,
        "epochs": summaries,
        "confusion": cells,
        "pseudo_labels": labels,
        "unlabeled": of_unlabeled,
        "steps": steps,
        "alerts": alerts(classes, summaries, steps, of_unlabeled, rules),
        "quarantine": bad_lines(parsed),
    }
