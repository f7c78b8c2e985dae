"""All result tables from all events at once: what the live query keeps up to date, computed anew."""

from pyspark.sql import DataFrame

from conf.alerts import AlertRules
from streaming import queries
from streaming.alerts import alerts
from streaming.events import ClassEvent, ConfusionEvent, PseudoLabelEvent, StepEvent
from streaming.lines import bad_lines, good_events, parsed_events
from streaming.unlabeled import pseudo_labels, unlabeled


def tables_of(lines: DataFrame, rules: AlertRules) -> dict[str, DataFrame]:
    """By name (see streaming/result_tables.py). lines: value, source."""
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
