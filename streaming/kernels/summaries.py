"""What a list of runs shows of each, from all events of the runs: computed once, when these are archived. No Spark."""

from collections.abc import Mapping

import pyarrow as pa

from longtail.streaming.events.schema import ClassEvent, own_fields
from longtail.streaming.kernels import newest, scores
from longtail.streaming.kernels.runs import run_rows
from longtail.streaming.tables.reading import latest_epochs
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.waiting_runs import Summary


def run_summaries(events: Mapping[str, pa.Table]) -> dict[str, Summary]:
    """By run, the row that the table `runs` has of it, and those of `epochs` at the latest epoch of each split.

    events: all events of the runs, by kind
    """
    found: dict[str, Summary] = {run: {"runs": [row], "epochs": []} for run, row in run_rows(events, []).items()}
    if ClassEvent.kind in events:
        of_classes = newest.latest_class_events_table(events[ClassEvent.kind].select(own_fields(ClassEvent)))
        classes = scores.class_epochs_table(of_classes, TABLES["class_epochs"].empty_table())
        for row in latest_epochs(scores.epochs_table(classes, TABLES["epochs"].empty_table())).to_pylist():
            found[row["run"]]["epochs"].append(row)
    return found
