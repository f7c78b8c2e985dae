"""The rules that raise alerts: their thresholds, and their conditions on the result tables of a run.

Adding an alert takes two files: its rule class and a field of AlertRules go here, its default thresholds to
conf/alerts.yaml. An alert is about the latest epoch of a run.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from longtail.conf.vocabulary import HELD_OUT_SPLITS, PRETRAINING, TRAIN, UNLABELED
from longtail.streaming.alerts.drift_rules import ClassVanished, ConfidenceFell, ImagesNovel, SharesDrifted
from longtail.streaming.alerts.rule import AlertTables, Found, Row, Rule


class ClassCollapsed(Rule):
    """A class has lost the accuracy it once had.

    once_above, now_below: accuracies in [0, 1]
    """

    once_above: float = Field(gt=0, le=1)
    now_below: float = Field(ge=0, le=1)

    def find(self, tables: AlertTables) -> Iterable[Found]:
        """One alert per class at the latest epoch of its split."""
        classes = tables.class_epochs
        # What a pre-training tells apart, such as rotations, are no classes of a long tail.
        classes = classes.filter(pc.invert(pc.starts_with(classes["phase"], PRETRAINING)))
        for split in HELD_OUT_SPLITS:
            last = at_latest_epoch(classes.filter(pc.equal(classes["split"], split)))
            was_good = pc.greater(last["best_accuracy"], self.once_above)
            collapsed = last.filter(pc.and_(was_good, pc.less(last["accuracy"], self.now_below)))
            for row in collapsed.to_pylist():
                message = f"accuracy of class {row['class_name']} fell to {100 * row['accuracy']:.1f} %"
                yield Found(split, row["epoch"], message)


class TailFalling(Rule):
    """Few-shot accuracy fell in each of the last `epochs` epochs."""

    epochs: int = Field(gt=0)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self, history: Sequence[Row]) -> str | None:
        """The message if the last epochs meet the rule."""
        values = _last_values(history, "few_shot_accuracy", self.epochs + 1)
        if not is_about_classes(history) or not values or not all(after < before for before, after in pairwise(values)):
            return None
        return f"few-shot accuracy fell in {self.epochs} consecutive epochs, to {100 * values[-1]:.1f} %"


class GapWidening(Rule):
    """The gap between many-shot and few-shot accuracy grew in each of the last `epochs` epochs."""

    epochs: int = Field(gt=0)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self, history: Sequence[Row]) -> str | None:
        """The message if the last epochs meet the rule."""
        values = _last_values(history, "head_tail_gap", self.epochs + 1)
        if not is_about_classes(history) or not values or not all(after > before for before, after in pairwise(values)):
            return None
        return f"the head-tail gap grew in {self.epochs} consecutive epochs, to {100 * values[-1]:.1f} points"


class Plateau(Rule):
    """Balanced accuracy gained less than `gain`, in [0, 1], in the last `epochs` epochs."""

    epochs: int = Field(gt=0)
    gain: float = Field(ge=0, le=1)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self, history: Sequence[Row]) -> str | None:
        """The message if the last epochs meet the rule."""
        if not is_held_out(history) or len(history) <= self.epochs:  # no plateau yet
            return None
        best_before = history[-1 - self.epochs]["best_balanced_accuracy"]
        recent = [row["balanced_accuracy"] for row in history[-self.epochs :]]
        best_recent = max((value for value in recent if value is not None), default=None)
        if best_before is None or best_recent is None or best_recent - best_before >= self.gain:
            return None
        now = "unknown" if recent[-1] is None else f"{100 * recent[-1]:.1f} %"
        return f"no gain in {self.epochs} epochs, balanced accuracy {now}"


class NanLoss(Rule):
    """The loss of an epoch, or inside the running epoch, is infinite or not a number. No thresholds."""

    def check_epoch(self, history: Sequence[Row]) -> str | None:
        """The message if the loss of the latest epoch is no number; of each split."""
        loss = history[-1]["loss"]
        return None if loss is None or math.isfinite(loss) else f"the loss is {_shown_loss(loss)}"

    def find(self, tables: AlertTables) -> Iterable[Found]:
        """The first such step of the run's latest epoch."""
        last = at_latest_epoch(tables.steps)
        bad = last.filter(pc.invert(pc.is_finite(last["loss"]))).sort_by([("step", "ascending"), ("loss", "ascending")])
        for row in bad.slice(0, 1).to_pylist():
            yield Found(TRAIN, row["epoch"], f"the loss is {_shown_loss(row['loss'])} at step {row['step']}")


class UnlabeledIrrelevant(Rule):
    """Pseudo-labels are less confident than held-out images, or the unlabeled images more imbalanced than the labels.

    confidence_drop: of the mean confidence, in [0, 1]; rho_factor: rho_U over rho
    """

    confidence_drop: float = Field(gt=0, le=1)
    rho_factor: float = Field(gt=0)

    def find(self, tables: AlertTables) -> Iterable[Found]:
        """One alert if the latest round meets the rule."""
        rows = tables.unlabeled_estimates.to_pylist()
        last = max(rows, key=lambda row: row["round"], default=None)
        if last and (message := self._message(last)):
            yield Found(UNLABELED, 0, message)  # a labelling has no epoch

    def _message(self, row: Row) -> str | None:
        confidence, expected = row["mean_confidence"], row["expected_confidence"]
        if confidence is not None and expected is not None and expected - confidence > self.confidence_drop:
            return (
                f"the unlabeled images may not be of these classes: mean confidence {100 * confidence:.1f} %, "
                f"expected {100 * expected:.1f} %"
            )
        rho, of_unlabeled = row["rho"], row["rho_unlabeled"]
        if rho is not None and of_unlabeled is not None and of_unlabeled > self.rho_factor * rho:
            return f"the unlabeled images may be too imbalanced to help: rho_U about {of_unlabeled:.1f}, rho {rho:.1f}"
        return None


class RunSilent(Rule):
    """A running run is lost, or sent no event for `seconds` s. Readers judge it (streaming/tables/liveness.py)."""

    seconds: float = Field(gt=0)


class AlertRules(BaseModel):
    """All rules by name; a rule that is None is off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_collapsed: ClassCollapsed | None = None
    tail_falling: TailFalling | None = None
    gap_widening: GapWidening | None = None
    plateau: Plateau | None = None
    nan_loss: NanLoss | None = None
    unlabeled_irrelevant: UnlabeledIrrelevant | None = None
    shares_drifted: SharesDrifted | None = None
    class_vanished: ClassVanished | None = None
    confidence_fell: ConfidenceFell | None = None
    images_novel: ImagesNovel | None = None
    run_silent: RunSilent | None = None

    def active(self) -> dict[str, Rule]:
        """The rules that are on, by name."""
        return {name: rule for name, rule in vars(self).items() if rule is not None}


def is_held_out(history: Sequence[Row]) -> bool:
    """Whether rows of `epochs` are about a held-out split."""
    return history[-1]["split"] in HELD_OUT_SPLITS


def is_about_classes(history: Sequence[Row]) -> bool:
    """Whether rows of `epochs` are about a held-out split and the images' classes, which no pre-training learns."""
    return is_held_out(history) and not history[-1]["phase"].startswith(PRETRAINING)


def at_latest_epoch(table: pa.Table) -> pa.Table:
    """The rows of the highest epoch."""
    return table.filter(pc.equal(table["epoch"], pc.max(table["epoch"])))


def _last_values(history: Sequence[Row], name: str, num_epochs: int) -> list[float] | None:
    """The values of the last epochs, None if there are fewer, or if one is unknown."""
    values = [row[name] for row in history[-num_epochs:]]
    return values if len(values) == num_epochs and None not in values else None


def _shown_loss(loss: float) -> str:
    return "NaN" if math.isnan(loss) else f"{'-' if loss < 0 else ''}Infinity"
