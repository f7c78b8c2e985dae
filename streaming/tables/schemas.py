"""The result tables of the live query and their columns. No Spark.

- runs: one row per run: its state; status is running, finished, failed or interrupted; when it is read, a running run
  of which nothing was heard for too long is lost (streaming/tables/liveness.py)
- class_epochs: one row per run, split, epoch and class
- epochs: one row per run, split and epoch
- confusion: the nonzero cells of the confusion matrix of each run and split at its latest epoch
- pseudo_labels: one row per run that labelled, round and class
- unlabeled_estimates: one row per run that labelled and round: estimates for the unlabeled images
- predictions: one row per run, stream that its checkpoint predicts, window of time and class, of the latest windows
- steps: progress inside the epochs
- alerts: runs that need attention; readers find the alerts of a user's own queries there too (tables/query_rows.py)
- quarantine: lines that are no events, each once, with the reason, and the run that they name

A table of the events of one kind has all their fields as columns. streaming/queries.py says how the other columns are
computed.
"""

import pyarrow as pa

from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    StepEvent,
    own_fields,
)

SPLITS = (TEST, VAL, TRAIN)
"""In the order in which displays prefer them: held-out splits first."""
TABLES_FORMAT_VERSION = 1
"""Version of the format that is written: of the manifests, the Parquet files and the Delta tables."""

RUNNING = "running"
"""Status of a run that has not ended; the other ones that are stored are END_STATES of events/schema.py."""

LOST = "lost"
"""Status that readers give a running run whose process is gone, or that was silent for too long."""

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()


def _columns(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


def _event_columns(kind: type[Event], **computed: pa.DataType) -> pa.Schema:
    fields = event_schema(kind)
    return pa.schema([fields.field(name) for name in own_fields(kind)] + list(computed.items()))


TABLES: dict[str, pa.Schema] = {
    "runs": _columns(
        run=_TEXT, attempt=_WHOLE, phase=_TEXT, status=_TEXT, started_at=_REAL, updated_at=_REAL, epoch=_WHOLE,
        num_epochs=_WHOLE, configuration=_TEXT, message=_TEXT, status_at=_REAL,
    ),
    "class_epochs": _event_columns(
        ClassEvent, accuracy=_REAL, accuracy_low=_REAL, accuracy_high=_REAL, precision=_REAL, f1=_REAL,
        accuracy_change=_REAL, best_accuracy=_REAL, true_share=_REAL, predicted_share=_REAL,
        mean_confidence=_REAL, calibration_gap=_REAL,
    ),
    "epochs": _columns(
        run=_TEXT, phase=_TEXT, split=_TEXT, epoch=_WHOLE, num_epochs=_WHOLE, accuracy=_REAL, balanced_accuracy=_REAL,
        best_balanced_accuracy=_REAL, many_shot_accuracy=_REAL, medium_shot_accuracy=_REAL, few_shot_accuracy=_REAL,
        head_tail_gap=_REAL, label_bias=_REAL, calibration_gap=_REAL, loss=_REAL, epoch_seconds=_REAL,
        images_per_second=_REAL, emitted_at=_REAL, learning_rate=_REAL, positive_rank=_REAL, num_candidates=_REAL,
    ),
    "confusion": _event_columns(ConfusionEvent),
    "pseudo_labels": _event_columns(PseudoLabelEvent),
    "unlabeled_estimates": _columns(
        run=_TEXT, round=_WHOLE, num_pseudo_labels=_WHOLE, rho=_REAL, rho_pseudo_labels=_REAL, rho_unlabeled=_REAL,
        mean_confidence=_REAL, expected_confidence=_REAL, histogram_divergence=_REAL,
    ),
    "steps": _event_columns(StepEvent),
    "predictions": _event_columns(PredictionEvent),
    "alerts": _columns(run=_TEXT, split=_TEXT, epoch=_WHOLE, rule=_TEXT, message=_TEXT),
    "quarantine": _columns(reason=_TEXT, line=_TEXT, source=_TEXT, run=_TEXT),
}  # fmt: skip

LATEST_WINDOWS = 100
"""Windows of a stream that the table `predictions` has; the events have all."""

IN_MANIFEST = ("runs", "alerts")
"""Tables of a few rows per run, stored in its manifest."""
LATEST_EPOCHS = "latest_epochs"
"""For readers, the rows of `epochs` at the latest epoch of each run and split. They are in the manifests, too: whoever
lists many old runs reads no more of them."""
BY_EPOCH = ("class_epochs", "epochs", "steps")
"""Tables that grow with the epochs, stored in segments of consecutive epochs."""
QUARANTINE = "quarantine"
"""The table that belongs to no run."""


def schema_of(name: str) -> pa.Schema:
    """The columns of a table, or of LATEST_EPOCHS."""
    return TABLES["epochs" if name == LATEST_EPOCHS else name]
