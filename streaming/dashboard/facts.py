"""What the page says in words and numbers: table -> plain values, ready for the templates."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import TEST, TRAIN, VAL

Row = dict[str, Any]

SPLITS = (TEST, VAL, TRAIN)
"""In the order in which a split is taken when none is asked for: held-out ones first."""

_PHASES = {
    "pretrain_rot": "pre-training, rotations", "pretrain_moco": "pre-training, MoCo",
    "pretrain_simclr": "pre-training, SimCLR", "train": "labels alone",
    "train_semi": "labels and pseudo-labels", "classifier": "classifier on a frozen backbone",
}  # fmt: skip


@dataclass(frozen=True)
class RunCard:
    """A run in the list. progress: share of its epochs that are done; scores: of the split that is shown, or None"""

    run: str
    title: str
    method: str
    status: str
    message: str
    epoch: int
    num_epochs: int
    progress: float
    updated_at: float
    balanced_accuracy: float | None
    few_shot_accuracy: float | None
    num_alerts: int


@dataclass(frozen=True)
class Score:
    """A key figure. change: from the epoch before; better: whether that is a gain; None where there is none"""

    name: str
    text: str
    unit: str
    change: str | None
    better: bool | None
    group: str | None


def newest_first(runs: pa.Table) -> list[Row]:
    """The runs, those that are running before the others."""
    rows = runs.to_pylist()
    return sorted(rows, key=lambda row: (row["status"] != "running", -(row["started_at"] or 0), row["run"]))


def splits_of(epochs: pa.Table, run: str) -> list[str]:
    there = set(epochs.filter(pc.equal(epochs["run"], run))["split"].to_pylist())
    return [split for split in SPLITS if split in there]


def of_split(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.equal(table["split"], split))


def of_run(table: pa.Table, run: str) -> pa.Table:
    return table.filter(pc.equal(table["run"], run))


def at_epoch(table: pa.Table, epoch: int) -> pa.Table:
    return table.filter(pc.equal(table["epoch"], epoch))


def last_epoch(table: pa.Table) -> int:
    """0 of an empty table."""
    return pc.max(table["epoch"]).as_py() or 0


def run_card(row: Row, latest: pa.Table, alerts: pa.Table, *, split: str | None) -> RunCard:
    """latest: the epochs table at each run's and split's newest; split: None takes the run's best"""
    run = row["run"]
    splits = splits_of(latest, run)
    shown = split if split in splits else next(iter(splits), None)
    scores: Row = of_split(of_run(latest, run), shown).to_pylist()[0] if shown else {}
    configuration = configuration_of(row)
    words = [configuration.get("dataset"), phase_words(row["phase"])]
    method = [configuration.get(name) for name in ("arch", "method", "loss_type", "train_rule")]
    return RunCard(
        run=run,
        title=", ".join(str(part) for part in words if part),
        method=" · ".join(str(part) for part in method if part not in (None, "None")),
        status=row["status"],
        message=row["message"] or "",
        epoch=row["epoch"] or 0,
        num_epochs=row["num_epochs"] or 0,
        progress=(row["epoch"] or 0) / row["num_epochs"] if row["num_epochs"] else 0.0,
        updated_at=row["updated_at"] or 0.0,
        balanced_accuracy=scores.get("balanced_accuracy"),
        few_shot_accuracy=scores.get("few_shot_accuracy"),
        num_alerts=len(of_run(alerts, run)),
    )


def configuration_of(row: Row) -> Row:
    """The run's options; none if the event that told them had something else there: the page shows the others still."""
    try:
        found = json.loads(row["configuration"] or "{}")
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def phase_words(phase: str) -> str:
    return _PHASES.get(phase, phase)


def key_figures(epochs: pa.Table) -> list[Score]:
    """The newest epoch's scores, with the change from the epoch before.

    epochs: rows of one run and split
    """
    rows = sorted(epochs.to_pylist(), key=lambda row: row["epoch"])[-2:]
    if not rows:
        return []
    latest, before = rows[-1], rows[0] if len(rows) > 1 else {}

    def score(name: str, column: str, *, rises: bool = True, unit: str = "%", group: str | None = None) -> Score:
        value, earlier = latest[column], before.get(column)
        # A smaller change than is shown would be "+0.0".
        least, factor, digits = (0.0005, 1, 3) if unit == "nats" else (0.0005, 100, 1)
        # An infinite bias has no change, and neither has one that is not there.
        if None in (value, earlier) or not math.isfinite(value - earlier) or abs(value - earlier) < least:
            return Score(name=name, text=number(value, unit), unit=unit, change=None, better=None, group=group)
        return Score(
            name=name,
            text=number(value, unit),
            unit=unit,
            change=f"{factor * (value - earlier):+.{digits}f}",
            better=value > earlier if rises else abs(value) < abs(earlier),
            group=group,
        )

    return [
        score("balanced", "balanced_accuracy"),
        score("many-shot", "many_shot_accuracy", group="many"),
        score("medium-shot", "medium_shot_accuracy", group="medium"),
        score("few-shot", "few_shot_accuracy", group="few"),
        score("head-tail gap", "head_tail_gap", rises=False, unit="points"),
        score("label bias", "label_bias", rises=False, unit="nats"),
        score("calibration gap", "calibration_gap", rises=False, unit="points"),
    ]


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if unit == "nats" else f"{100 * value:.1f}"


def latest_step(steps: pa.Table, *, after_epoch: int) -> Row | None:
    """The newest step-level row of the epoch that a run is in, None before its first."""
    steps = steps.filter(pc.greater(steps["epoch"], after_epoch))
    rows = steps.sort_by([("epoch", "descending"), ("step", "descending")]).slice(0, 1).to_pylist()
    return rows[0] if rows else None


def latest_round(labels: pa.Table) -> pa.Table:
    """Of a table by rounds of labelling, the newest."""
    return labels.filter(pc.equal(labels["round"], pc.max(labels["round"])))


def round_before(labels: pa.Table, read: Callable[[str, str], pa.Table]) -> pa.Table | None:
    """The labelling that a run's own one goes on from, or None. labels: one run's pseudo_labels of one round"""
    (first,) = labels.select(["previous_run", "round"]).slice(0, 1).to_pylist()
    if not first["previous_run"]:
        return None
    of_previous = read("pseudo_labels", first["previous_run"])
    before = of_previous.filter(pc.equal(of_previous["round"], first["round"] - 1))
    return before if len(before) else None


def pseudo_labels_in_training(classes: pa.Table) -> pa.Table:
    """As pseudo_labels, without confidences: how many a training has of each class; no row if it has none.

    classes: class_epochs of one epoch
    """
    if not (pc.sum(classes["pseudo_label_count"]).as_py() or 0):
        return classes.slice(0, 0)
    nothing = pa.nulls(len(classes), pa.float64())
    return pa.table(
        {
            "class_id": classes["class_id"],
            "labelled_count": pc.subtract(classes["train_count"], classes["pseudo_label_count"]),
            "pseudo_label_count": classes["pseudo_label_count"],
            "mean_confidence": nothing,
        }
    )


def largest_confusions(confusion: pa.Table, classes: pa.Table, *, group: str, most: int) -> list[Row]:
    """Which class takes the most of which class of a shot group: true and predicted name and share of the true class.

    classes: class_id, class_name, shot_group, support, a row a class
    """
    facts = {row["class_id"]: row for row in classes.to_pylist()}
    flows = [
        {
            "true": facts[row["true_class"]]["class_name"],
            "predicted": facts[row["predicted_class"]]["class_name"],
            "share": row["count"] / facts[row["true_class"]]["support"],
            "count": row["count"],
        }
        for row in confusion.filter(pc.not_equal(confusion["true_class"], confusion["predicted_class"])).to_pylist()
        if row["count"]
        and row["true_class"] in facts
        and row["predicted_class"] in facts
        and facts[row["true_class"]]["support"]
        and group in ("all", facts[row["true_class"]]["shot_group"])
    ]
    return sorted(flows, key=lambda flow: (-flow["share"], -flow["count"], flow["true"], flow["predicted"]))[:most]


def compared(epochs: pa.Table, runs: Sequence[str], *, epoch: int) -> list[Row]:
    """The scores of runs at one epoch, the reference first, each with its difference from it (points; None for it).

    epochs: rows of one split
    """
    rows = []
    for run in runs:
        (row,) = at_epoch(of_run(epochs, run), epoch).to_pylist()
        rows.append(row)
    columns = ("balanced_accuracy", "many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy")
    return [
        {
            "run": row["run"],
            "phase": phase_words(row["phase"]),
            "scores": [
                {"text": number(row[name], "%"), "difference": _difference(row[name], rows[0][name], index)}
                for name in columns
            ],
        }
        for index, row in enumerate(rows)
    ]


def _difference(value: float | None, reference: float | None, index: int) -> float | None:
    return None if index == 0 or value is None or reference is None else 100 * (value - reference)
