"""The result tables computed from all events in plain Python, from their docstrings alone: an oracle for the queries.

Of the columns of a table those that are computed; events of the same key and attempt must differ in emitted_at.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from scipy.stats import binomtest

from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
)
from longtail.streaming.tables.schemas import LATEST_WINDOWS

Row = dict[str, Any]
GROUPS = ("many", "medium", "few")


def plain_tables(events: Sequence[Event]) -> dict[str, list[Row]]:
    """Runs, class_epochs, epochs, confusion, steps, pseudo_labels and predictions."""
    classes = _class_epochs(events)
    training = [row for row in _rows(events, Event) if row["kind"] not in ("pseudo_labels", "predictions")]
    return {
        "runs": [_run(of_run) for of_run in _by(training, "run")],
        "class_epochs": classes,
        "epochs": _epochs(classes),
        "confusion": _newest(
            _highest(_rows(events, ConfusionEvent), ("attempt", "epoch"), by=("run", "split")),
            by=("run", "split", "true_class", "predicted_class"),
        ),
        "steps": _newest(_not_begun_again(_rows(events, StepEvent)), by=("run", "epoch", "step")),
        "pseudo_labels": _newest(
            _highest(_rows(events, PseudoLabelEvent), ("attempt", "emitted_at"), by=("run", "round")),
            by=("run", "round", "class_id"),
        ),
        "predictions": _predictions(_rows(events, PredictionEvent)),
    }


def _predictions(rows: list[Row]) -> list[Row]:
    of_window = ("run", "stream", "window_start")
    newest = _newest(_highest(rows, ("attempt", "emitted_at"), by=of_window), by=(*of_window, "class_id"))
    found = []
    for of_stream in _by(newest, "run", "stream"):
        latest = sorted({row["window_start"] for row in of_stream})[-LATEST_WINDOWS:]
        found += [row for row in of_stream if row["window_start"] in latest]
    return found


def _rows(events: Iterable[Event], kind: type[Event]) -> list[Row]:
    return [asdict(event) for event in events if isinstance(event, kind)]


def _by(rows: Iterable[Row], *names: str) -> list[list[Row]]:
    parts: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        parts[tuple(row[name] for name in names)].append(row)
    return list(parts.values())


def _highest(rows: list[Row], names: tuple[str, ...], *, by: tuple[str, ...]) -> list[Row]:
    found = []
    for part in _by(rows, *by):
        top = max(tuple(row[name] for name in names) for row in part)
        found += [row for row in part if tuple(row[name] for name in names) == top]
    return found


def _newest(rows: list[Row], *, by: tuple[str, ...]) -> list[Row]:
    return [max(part, key=lambda row: (row["attempt"], row["emitted_at"])) for part in _by(rows, *by)]


def _not_begun_again(rows: list[Row]) -> list[Row]:
    """Without the rows of epochs that a higher attempt has rows of, or of an earlier one."""
    return [
        row
        for of_run in _by(rows, "run")
        for row in of_run
        if not any(other["attempt"] > row["attempt"] and other["epoch"] <= row["epoch"] for other in of_run)
    ]


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _best(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _class_epochs(events: Sequence[Event]) -> list[Row]:
    rows = _newest(_not_begun_again(_rows(events, ClassEvent)), by=("run", "split", "epoch", "class_id"))
    for of_epoch in _by(rows, "run", "split", "epoch"):
        for row in of_epoch:
            row["true_share"] = _ratio(row["support"], sum(one["support"] for one in of_epoch))
            row["predicted_share"] = _ratio(row["predicted"], sum(one["predicted"] for one in of_epoch))
    for of_class in _by(rows, "run", "split", "class_id"):
        of_class.sort(key=lambda row: row["epoch"])
        for number, row in enumerate(of_class):
            row["accuracy"] = _ratio(row["correct"], row["support"])
            row["accuracy_change"] = _difference(row["accuracy"], of_class[number - 1]["accuracy"]) if number else None
            row["best_accuracy"] = _best(one["accuracy"] for one in of_class[: number + 1])
            interval = (None, None)
            if row["support"]:
                interval = binomtest(row["correct"], row["support"]).proportion_ci(0.95, method="wilson")
            row["accuracy_low"], row["accuracy_high"] = interval
            row["precision"] = _ratio(row["correct"], row["predicted"])
            row["f1"] = _ratio(2 * row["correct"], row["support"] + row["predicted"])
            row["mean_confidence"] = _ratio(row["confidence_sum"], row["support"])
            row["calibration_gap"] = _difference(row["mean_confidence"], row["accuracy"])
    return rows


def _label_bias(classes: list[Row]) -> float | None:
    if classes[0]["true_share"] is None or classes[0]["predicted_share"] is None:
        return None
    shares = [(row["predicted_share"], row["true_share"]) for row in classes if row["predicted_share"]]
    return math.fsum(p * math.log(p / t) if t else math.inf for p, t in shares)


def _epochs(class_epochs: list[Row]) -> list[Row]:
    found = []
    for classes in _by(class_epochs, "run", "split", "epoch"):
        support = sum(row["support"] for row in classes)
        correct = sum(row["correct"] for row in classes)
        row = {
            **{name: classes[0][name] for name in ("run", "split", "epoch", "phase", "num_epochs")},
            "accuracy": _ratio(correct, support),
            "balanced_accuracy": _mean(row["accuracy"] for row in classes),
            **{f"{g}_shot_accuracy": _mean(r["accuracy"] for r in classes if r["shot_group"] == g) for g in GROUPS},
            "label_bias": _label_bias(classes),
            "calibration_gap": _ratio(sum(row["confidence_sum"] for row in classes) - correct, support),
            "loss": _ratio(sum(row["loss_sum"] for row in classes), support),
            "emitted_at": max(row["emitted_at"] for row in classes),
        }
        row["head_tail_gap"] = _difference(row["many_shot_accuracy"], row["few_shot_accuracy"])
        found.append(row)
    for of_split in _by(found, "run", "split"):
        of_split.sort(key=lambda row: row["epoch"])
        for number, row in enumerate(of_split):
            row["best_balanced_accuracy"] = _best(one["balanced_accuracy"] for one in of_split[: number + 1])
    return found


def _run(events: list[Row]) -> Row:
    attempt = max(row["attempt"] for row in events)
    latest = [row for row in events if row["attempt"] == attempt]
    states = {row["state"] for row in latest if row["kind"] == RunEvent.kind}
    return {
        "run": events[0]["run"],
        "attempt": attempt,
        "status": next((s for s in ("finished", "interrupted", "failed") if s in states), "running"),
        "started_at": min(row["emitted_at"] for row in events),
        "updated_at": max(row["emitted_at"] for row in events),
        "epoch": max((row["epoch"] for row in latest if row["kind"] != StepEvent.kind), default=None),
        "num_epochs": max((row["num_epochs"] for row in latest if "num_epochs" in row), default=None),
    }
