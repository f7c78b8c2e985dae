"""The metric events: what a training, or a labelling of unlabeled data, says about itself while it runs.

The dataclasses below are the schema, a class an event kind. A line of an event
file, or a Kafka message, is one event as a JSON object with exactly the fields
of its kind; `kind` tells which. The JSON keys, Spark's DDL and the readers'
column names are all taken from here.
"""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any

EVENT_SCHEMA_VERSION = 2

RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
"""Names that a run may have: they are also names of files and directories."""

STARTED, EPOCH_DONE, FINISHED, FAILED = "started", "epoch_done", "finished", "failed"
RUN_STATES = (STARTED, EPOCH_DONE, FINISHED, FAILED)

_SPARK_TYPES = {int: "BIGINT", float: "DOUBLE", str: "STRING", float | None: "DOUBLE"}


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has.

    schema_version: EVENT_SCHEMA_VERSION of the writer
    kind: which of the classes below
    run: name of the run
    attempt: 1 for the first start of the run, one more for each start after a stop; the highest counts
    phase: what is trained: pretrain_rot, pretrain_moco, pretrain_simclr, train, train_semi, classifier;
        or gen_pseudolabels
    emitted_at: seconds since 1970-01-01 UTC
    """

    schema_version: int = EVENT_SCHEMA_VERSION
    kind: str
    run: str
    attempt: int
    phase: str
    emitted_at: float


@dataclass(frozen=True, kw_only=True)
class ClassEvent(Event):
    """Counts over the images of one class (or, for `predicted`, over all images of the split) after an epoch.

    epoch, num_epochs: the finished epoch, counted from 1, and how many there will be
    split: train (measured on the augmented batches, while learning), val or test; or unlabeled, where pseudo-labels are
        made in every step and the truth is known: only sure ones are predictions, so that correct/support is their
        recall and correct/predicted their precision, and the loss is what was learned of them
    class_id, class_name: class index from 0, and its name
    shot_group: many, medium or few
    train_count: training images of the class, pseudo-labelled ones included
    pseudo_label_count: of these, the pseudo-labelled ones
    support: images of the class in the split
    correct: of these, images predicted as the class
    predicted: images of the split predicted as the class
    loss_sum: sum of the unweighted loss over the class's images
    confidence_sum: sum of the largest softmax probability over the class's images
    epoch_seconds, images_per_second: time of the epoch, evaluation included, and its training throughput
    """

    kind: str = "class"
    epoch: int
    num_epochs: int
    split: str
    class_id: int
    class_name: str
    shot_group: str
    train_count: int
    pseudo_label_count: int
    support: int
    correct: int
    predicted: int
    loss_sum: float
    confidence_sum: float
    epoch_seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class ConfusionEvent(Event):
    """One cell of a held-out split's confusion matrix after an epoch; cells of zero are not told.

    count: images of class true_class that are predicted as predicted_class
    """

    kind: str = "confusion"
    epoch: int
    split: str
    true_class: int
    predicted_class: int
    count: int


@dataclass(frozen=True, kw_only=True)
class StepEvent(Event):
    """How learning goes inside an epoch, over the writer's images since its step event before (or the epoch's begin).

    step, num_steps: the last of these steps, counted from 1, and the steps of the epoch
    loss, accuracy: mean over the images of the unweighted loss, and the share predicted right
    images_per_second: of all ranks together
    """

    kind: str = "step"
    epoch: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class RunEvent(Event):
    """Where the run as a whole stands.

    state: started, epoch_done, finished or failed
    epoch, num_epochs: finished epochs, and how many there will be
    configuration: all options of the run, as a JSON object
    message: why it failed; empty otherwise
    """

    kind: str = "run"
    state: str
    epoch: int
    num_epochs: int
    configuration: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PseudoLabelEvent(Event):
    """What a labelling of unlabeled images gave one class; `run` is the run whose classifier labelled.

    previous_run: the run that labelled for the training of this one's classifier; empty in round 1
    round: 1 for the first labelling, one more for each that a classifier trained on the one before makes
    labelled_count, pseudo_label_count: images with a label of the class, and with a pseudo-label of it
    mean_confidence and quantiles: of the pseudo-labels of the class; null without any
    """

    kind: str = "pseudo_labels"
    previous_run: str
    round: int
    class_id: int
    class_name: str
    labelled_count: int
    pseudo_label_count: int
    mean_confidence: float | None
    confidence_p10: float | None
    confidence_p50: float | None
    confidence_p90: float | None


EVENT_KINDS: dict[str, type[Event]] = {
    kind.kind: kind for kind in (ClassEvent, ConfusionEvent, StepEvent, RunEvent, PseudoLabelEvent)
}


def event_line(event: Event) -> str:
    """The event as a line of JSON. JSON has no infinities and no NaN: they are told as strings, which Spark knows."""
    values = {name: _json_value(value) for name, value in dataclasses.asdict(event).items()}
    return json.dumps(values, allow_nan=False)


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def field_names(kind: type[Event], *, nullable: bool = True) -> list[str]:
    """The fields of an event kind; those that may be null only if asked for."""
    return [field.name for field in dataclasses.fields(kind) if nullable or type(None) not in _parts(field.type)]


def spark_ddl(*kinds: type[Event]) -> str:
    """The columns of these kinds together, for Spark; of all kinds if none is named."""
    columns = {
        field.name: _SPARK_TYPES[field.type]
        for kind in kinds or EVENT_KINDS.values()
        for field in dataclasses.fields(kind)
    }
    return ", ".join(f"{name} {spark_type}" for name, spark_type in columns.items())


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", (annotation,))
