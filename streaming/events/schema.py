"""The metric events that a training, a labelling of unlabeled data or a stream of predictions writes while it runs.

The dataclasses below are the schema, one class per kind of event. A line of an event file, or a Kafka message, is one
event: a JSON object with the fields of its kind, which the field `kind` names. The JSON keys, Spark's DDL, the readers'
column names and the columns of the result tables (streaming/tables/schemas.py) are all derived from here.

Adding a field: declare it here with type `T | None` and default None, raise EVENT_FORMAT_VERSION, and fill it where the
event is made. Lines of older versions lack the field and are read as null.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, get_args

EVENT_FORMAT_VERSION = 2
"""Version of the format that is written. Lines of older versions are read; newer ones go to the quarantine."""

RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
"""Valid names of runs: they are also names of files and directories."""

STARTED, EPOCH_DONE = "started", "epoch_done"
FAILED, INTERRUPTED, FINISHED = "failed", "interrupted", "finished"
END_STATES = (FAILED, INTERRUPTED, FINISHED)
"""How an attempt ends. If it reports several, the last of these counts: ranks fail when the driver is interrupted."""
RUN_STATES = (STARTED, EPOCH_DONE, *END_STATES)

_SPARK_TYPES = {int: "BIGINT", float: "DOUBLE", str: "STRING"}


@dataclass(frozen=True, kw_only=True)
class Event:
    """The fields that every event has.

    format_version: EVENT_FORMAT_VERSION of the writer
    kind: which of the classes below
    run: name of the run
    attempt: 1 for the first start of the run, one more for each restart; the highest attempt counts
    phase: what the run does: train, train_semi, classifier (of the job train_classifier), the name of a pre-training
        (conf/options/), gen_pseudolabels, or predict
    emitted_at: seconds since 1970-01-01 UTC
    """

    format_version: int = EVENT_FORMAT_VERSION
    kind: str
    run: str
    attempt: int
    phase: str
    emitted_at: float


@dataclass(frozen=True, kw_only=True)
class ClassEvent(Event):
    """Counts over the images of one class in one split after an epoch.

    epoch, num_epochs: the finished epoch, counted from 1, and the number of epochs of the training
    split: train (measured on the augmented batches while learning), val, test, or unlabeled; on unlabeled images, which
        get a pseudo-label in every step, only confident pseudo-labels count as predictions, so that correct/support is
        their recall, correct/predicted their precision, and the loss is the one that was learned from them; written
        only if the true classes are known
    class_id, class_name: class index from 0, and its name
    shot_group: many, medium or few
    train_count: training images of the class, pseudo-labelled ones included
    pseudo_label_count: pseudo-labelled images among these
    support: images of the class in the split
    correct: images among these that are predicted as the class
    predicted: images of the whole split that are predicted as the class
    loss_sum: sum of the loss over the class's images, without class weights; those of --train_rule Reweight and DRW are
        part of --loss_type Focal in training
    confidence_sum: sum of the largest softmax probability over the class's images
    epoch_seconds, images_per_second: duration of the epoch, evaluation included, and its training throughput
    learning_rate: of the epoch's first step; null before format version 2, and if nothing is learned
    positive_rank, num_candidates: of contrastive pre-training on the split train, else null: the mean rank of the other
        view of the same image by its similarity, 1 for the most similar one, and among how many views on average
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
    learning_rate: float | None = None
    positive_rank: float | None = None
    num_candidates: float | None = None


@dataclass(frozen=True, kw_only=True)
class ConfusionEvent(Event):
    """One nonzero cell of a held-out split's confusion matrix after an epoch.

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
    """Progress inside an epoch: rank 0's images since its previous step event (or the start of the epoch).

    step, num_steps: the last step covered, counted from 1, and the number of steps per epoch
    loss, accuracy: mean of the loss, as in loss_sum, and share of images predicted correctly, of rank 0 alone
    images_per_second: throughput of all ranks, estimated as that of rank 0 times their number
    learning_rate: of the last step covered; null before format version 2
    """

    kind: str = "step"
    epoch: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float
    learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunEvent(Event):
    """A change in the state of the run as a whole.

    state: started, epoch_done, finished, failed, or interrupted (by Ctrl-C, that is SIGINT, or by SIGTERM)
    epoch, num_epochs: number of finished epochs, and of all epochs
    configuration: all options of the run, as a JSON object
    message: reason of a failure; empty otherwise
    """

    kind: str = "run"
    state: str
    epoch: int
    num_epochs: int
    configuration: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PseudoLabelEvent(Event):
    """Pseudo-labels of one class after a labelling of unlabeled images; `run` is the run whose classifier labelled.

    previous_run: the run that made the pseudo-labels this run's classifier was trained on; empty in round 1
    round: 1 for the first labelling, one more for each labelling by a classifier trained on the previous one
    labelled_count, pseudo_label_count: images with a label of the class, and with a pseudo-label of the class
    mean_confidence and quantiles: confidence of the class's pseudo-labels; null if there are none
    correct_count, unlabeled_count: pseudo-labels of the class that are right, and unlabeled images of the class; null
        if the truth is not known of all pseudo-labelled images, and before format version 2
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
    correct_count: int | None = None
    unlabeled_count: int | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionEvent(Event):
    """Predictions of one class in one window of time of `longtail predict --stream`; `run` is the run whose checkpoint
    predicts. The events of a window have the same emitted_at; a window that gets more images later is written again.

    stream: the table that the predictions are in
    window_start, window_seconds: where the window begins, in seconds since 1970-01-01 UTC, and its length
    class_id, class_name, train_count: class index from 0, its name, and its training images
    predicted: images of the window that are predicted as the class
    novel: images among these that are less confident than nearly all of the reference (streaming/drift.py)
    confidence_sum, confidence_squares: sums of the confidence of these images and of its squares
    estimated_share, share_low, share_high: estimate of the class's true share of the window's images, and its 95 %
        interval; null where they are not estimated
    reference_predicted, reference_novel, reference_confidence_sum, reference_confidence_squares: the same counts of the
        predictions that the window is compared with; null while there are none
    """

    kind: str = "predictions"
    stream: str
    window_start: float
    window_seconds: int
    class_id: int
    class_name: str
    train_count: int
    predicted: int
    novel: int
    confidence_sum: float
    confidence_squares: float
    estimated_share: float | None
    share_low: float | None
    share_high: float | None
    reference_predicted: int | None
    reference_novel: int | None
    reference_confidence_sum: float | None
    reference_confidence_squares: float | None


EVENT_KINDS: dict[str, type[Event]] = {
    kind.kind: kind for kind in (ClassEvent, ConfusionEvent, StepEvent, RunEvent, PseudoLabelEvent, PredictionEvent)
}

OF_NO_TRAINING = (PseudoLabelEvent.kind, PredictionEvent.kind)
"""Kinds of what is done with a run's checkpoint: they tell nothing of the state of its training."""


def event_line(event: Event) -> str:
    """The event as a line of JSON."""
    values = {name: json_value(value) for name, value in dataclasses.asdict(event).items()}
    return json.dumps(values, allow_nan=False)


def json_value(value: Any) -> Any:
    """The value of a field as JSON: infinities and NaN, which JSON lacks, become strings that Spark reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@cache
def field_types(kind: type[Event]) -> Mapping[str, type]:
    """Names and value types (int, float or str) of the fields of an event kind, in the order of its lines."""
    return MappingProxyType({field.name: _value_type(field) for field in dataclasses.fields(kind)})


@cache
def nullable_fields(kind: type[Event]) -> Sequence[str]:
    """Names of the fields that may be null."""
    return tuple(field.name for field in dataclasses.fields(kind) if NoneType in get_args(field.type))


def later_fields(kind: type[Event]) -> list[str]:
    """Names of the fields that were added after version 1: lines of older versions lack them."""
    return [field.name for field in dataclasses.fields(kind) if field.default is None]


def own_fields(kind: type[Event]) -> list[str]:
    """Names of the fields of an event kind, without format_version and kind."""
    return [name for name in field_types(kind) if name not in ("format_version", "kind")]


def spark_ddl(*kinds: type[Event]) -> str:
    """The fields of these kinds (default: of all kinds) as columns of one Spark schema."""
    columns = {name: kind for event in kinds or EVENT_KINDS.values() for name, kind in field_types(event).items()}
    return ", ".join(f"{name} {_SPARK_TYPES[kind]}" for name, kind in columns.items())


def _value_type(field: dataclasses.Field[Any]) -> type:
    types = [part for part in get_args(field.type) or (field.type,) if part is not NoneType]
    assert len(types) == 1 and isinstance(types[0], type), f"{field.name} has no single type"
    return types[0]
