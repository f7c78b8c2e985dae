"""The scores of classes and epochs, as streaming/queries.py defines them, by Arrow and numpy.

Why beside Spark's: a micro-batch is small, and an action over it costs a tenth of a second before it reads a row. Of
400,000 class events, sorting and window functions take Spark many times as long as these.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.streaming.intervals import wilson_interval
from longtail.streaming.kernels.groups import Groups, nullable, numbers, quotient
from longtail.streaming.kernels.history import change_and_best
from longtail.streaming.kernels.newest import CLASS_KEY
from longtail.streaming.tables.schemas import TABLES

_OF_EPOCH = ("learning_rate", "positive_rank", "num_candidates")


def class_epochs_table(class_events: pa.Table, before: pa.Table) -> pa.Table:
    """The table class_epochs of these events, sorted by run, split, class and epoch.

    class_events: latest_class_events
    before: rows of this table, the last one of each run, split and class for epochs before those of the events
    """
    rows = class_events.take(pa.array(Groups(class_events, CLASS_KEY).order))
    support, correct, predicted = (numbers(rows, name) for name in ("support", "correct", "predicted"))
    accuracy = quotient(correct, support)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = wilson_interval(accuracy, support.astype(float), sqrt=np.sqrt)
    by_epoch = Groups(rows, ["run", "split", "epoch"])
    rows = rows.append_column("accuracy", nullable(accuracy))
    change, best = change_and_best(
        rows, before, key=["run", "split", "class_id"], value="accuracy", best="best_accuracy"
    )
    # A sum of confidences may be NaN, which is a value.
    mean_confidence, has_images = quotient(numbers(rows, "confidence_sum"), support), support > 0
    computed = {
        "accuracy_low": nullable(low, has_images),
        "accuracy_high": nullable(high, has_images),
        "precision": nullable(quotient(correct, predicted)),
        "f1": nullable(quotient(2 * correct, support + predicted)),
        "accuracy_change": nullable(change),
        "best_accuracy": nullable(best),
        "true_share": nullable(quotient(support, by_epoch.of_rows(by_epoch.sum(support)))),
        "predicted_share": nullable(quotient(predicted, by_epoch.of_rows(by_epoch.sum(predicted)))),
        "mean_confidence": nullable(mean_confidence, has_images),
        "calibration_gap": nullable(mean_confidence - accuracy, has_images),
    }
    for name, column in computed.items():
        rows = rows.append_column(name, column)
    return rows.select(TABLES["class_epochs"].names)


def epochs_table(classes: pa.Table, before: pa.Table) -> pa.Table:
    """The table epochs of these rows of class_epochs, sorted by run, split and epoch.

    before: rows of this table, the last one of each run and split for epochs before those of the classes
    """
    groups = Groups(classes, ["run", "split", "epoch"])
    support, correct, predicted = (groups.sum(numbers(classes, name)) for name in ("support", "correct", "predicted"))
    accuracy = numbers(classes, "accuracy")
    of_group = {group: _mean_accuracy(groups, classes, accuracy, [group]) for group in SHOT_GROUPS}
    confidence, loss = (groups.sum(numbers(classes, name)) for name in ("confidence_sum", "loss_sum"))
    rows = classes.take(pa.array(groups.first)).select(["run", "split", "epoch", "num_epochs"])
    rows = rows.set_column(3, "num_epochs", pa.array(groups.max(numbers(classes, "num_epochs"))))
    rows = rows.append_column("balanced_accuracy", nullable(_mean_accuracy(groups, classes, accuracy, SHOT_GROUPS)))
    by_phase = Groups(classes, ["run", "split", "epoch"], by=["phase"])
    _, best = change_and_best(
        rows, before, key=["run", "split"], value="balanced_accuracy", best="best_balanced_accuracy"
    )
    computed = {
        "phase": classes["phase"].take(pa.array(by_phase.last)),
        "accuracy": nullable(quotient(correct, support)),
        "best_balanced_accuracy": nullable(best),
        **{f"{group}_shot_accuracy": nullable(values) for group, values in of_group.items()},
        "head_tail_gap": nullable(of_group["many"] - of_group["few"]),
        "label_bias": nullable(groups.sum(_divergence(classes)), (support > 0) & (predicted > 0)),
        "calibration_gap": nullable(quotient(confidence - correct, support), support > 0),
        "loss": nullable(quotient(loss, support), support > 0),
        **{name: pa.array(groups.max(numbers(classes, name))) for name in ("epoch_seconds", "images_per_second")},
        "emitted_at": pa.array(groups.max(numbers(classes, "emitted_at"))),
        **{name: nullable(groups.max(numbers(classes, name).astype(float))) for name in _OF_EPOCH},
    }
    for name, column in computed.items():
        rows = rows.append_column(name, column)
    return rows.select(TABLES["epochs"].names)


def _mean_accuracy(groups: Groups, classes: pa.Table, accuracy: np.ndarray, of: Sequence[str]) -> np.ndarray:
    """Of the classes of these shot groups that have images."""
    shot_group = classes["shot_group"].combine_chunks().dictionary_encode()
    is_of = np.isin(shot_group.dictionary.to_pylist(), of)[shot_group.indices.to_numpy()] & ~np.isnan(accuracy)
    return quotient(groups.sum(np.where(is_of, accuracy, 0.0)), groups.sum(is_of.astype(np.int64)))


def _divergence(classes: pa.Table) -> np.ndarray:
    """What each class adds to the Kullback-Leibler divergence of the predicted from the true class shares."""
    true, predicted = numbers(classes, "true_share"), numbers(classes, "predicted_share")
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 * log 0 is 0. Predicting an absent class is infinitely far off.
        return np.where(predicted == 0, 0.0, np.where(true == 0, np.inf, predicted * np.log(predicted / true)))
