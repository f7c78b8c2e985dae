"""The rules that raise alerts: their thresholds, and their conditions on the result tables.

Adding an alert takes two files: its rule class and a field of AlertRules go here, its default thresholds to
conf/alerts.yaml. An alert is about the latest epoch of a run.
"""

from dataclasses import dataclass
from functools import reduce

from pydantic import BaseModel, ConfigDict, Field
from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from longtail.conf.vocabulary import HELD_OUT_SPLITS, TRAIN, UNLABELED


@dataclass(frozen=True)
class AlertTables:
    """The result tables that rules look at; of class_epochs and steps at least the latest epoch."""

    class_epochs: DataFrame
    epochs: DataFrame
    steps: DataFrame
    unlabeled_estimates: DataFrame


class Rule(BaseModel):
    """Thresholds of a rule, and how it finds alerts: check_epoch, find, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def num_earlier_epochs(self) -> int:
        """How many epochs before the latest one check_epoch looks at."""
        return 0

    def check_epoch(self) -> tuple[Column, Column] | None:
        """Condition and message of an alert about a row of `epochs`. Window functions reach the earlier epochs."""
        return None

    def find(self, tables: AlertTables) -> DataFrame | None:
        """Alerts from any of the tables: run, split, epoch, message."""
        return None


class ClassCollapsed(Rule):
    """A class has lost the accuracy it once had.

    once_above, now_below: accuracies in [0, 1]
    """

    once_above: float = Field(gt=0, le=1)
    now_below: float = Field(ge=0, le=1)

    def find(self, tables: AlertTables) -> DataFrame:
        """The runs and splits that meet the rule at their latest epoch, with the message."""
        collapsed = (F.col("best_accuracy") > self.once_above) & (F.col("accuracy") < self.now_below)
        message = F.format_string("accuracy of class %s fell to %.1f %%", "class_name", F.col("accuracy") * 100)
        last = at_latest_epoch(tables.class_epochs.where(is_held_out())).where(collapsed)
        return last.select("run", "split", "epoch", message.alias("message"))


class TailFalling(Rule):
    """Few-shot accuracy fell in each of the last `epochs` epochs."""

    epochs: int = Field(gt=0)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self) -> tuple[Column, Column]:
        """Whether an epoch meets the rule, and the message."""
        text = f"few-shot accuracy fell in {self.epochs} consecutive epochs, to %.1f %%"
        falling = _moved_in_each_epoch(F.col("few_shot_accuracy"), self.epochs, sign=-1)
        return is_held_out() & falling, F.format_string(text, F.col("few_shot_accuracy") * 100)


class GapWidening(Rule):
    """The gap between many-shot and few-shot accuracy grew in each of the last `epochs` epochs."""

    epochs: int = Field(gt=0)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self) -> tuple[Column, Column]:
        """Whether an epoch meets the rule, and the message."""
        text = f"the head-tail gap grew in {self.epochs} consecutive epochs, to %.1f points"
        growing = _moved_in_each_epoch(F.col("head_tail_gap"), self.epochs, sign=1)
        return is_held_out() & growing, F.format_string(text, F.col("head_tail_gap") * 100)


class Plateau(Rule):
    """Balanced accuracy gained less than `gain`, in [0, 1], in the last `epochs` epochs."""

    epochs: int = Field(gt=0)
    gain: float = Field(ge=0, le=1)

    @property
    def num_earlier_epochs(self) -> int:
        """Epochs before an epoch that the rule looks at."""
        return self.epochs

    def check_epoch(self) -> tuple[Column, Column]:
        """Whether an epoch meets the rule, and the message."""
        text = f"no gain in {self.epochs} epochs, balanced accuracy %.1f %%"
        best_recent = F.max("balanced_accuracy").over(_by_epoch().rowsBetween(1 - self.epochs, Window.currentRow))
        best_before = F.lag("best_balanced_accuracy", self.epochs).over(_by_epoch())
        # Null as long as there are no epochs before the recent ones: no plateau yet.
        is_stuck = F.coalesce(best_recent - best_before < self.gain, F.lit(False))
        return is_held_out() & is_stuck, F.format_string(text, F.col("balanced_accuracy") * 100)


class NanLoss(Rule):
    """The loss of an epoch, or inside the running epoch, is infinite or not a number. No thresholds."""

    def check_epoch(self) -> tuple[Column, Column]:
        """Whether an epoch meets the rule, and the message."""
        return ~_is_finite("loss"), F.format_string("the loss is %s", F.col("loss").cast("string"))

    def find(self, tables: AlertTables) -> DataFrame:
        """The first such step of a run's latest epoch."""
        last = at_latest_epoch(tables.steps.withColumn("split", F.lit(TRAIN))).where(~_is_finite("loss"))
        first = last.groupBy("run", "split", "epoch").agg(F.min(F.struct("step", "loss")).alias("first"))
        message = F.format_string("the loss is %s at step %d", F.col("first.loss").cast("string"), F.col("first.step"))
        return first.select("run", "split", "epoch", message.alias("message"))


class UnlabeledIrrelevant(Rule):
    """Pseudo-labels are less confident than held-out images, or the unlabeled images more imbalanced than the labels.

    confidence_drop: of the mean confidence, in [0, 1]; rho_factor: rho_U over rho
    """

    confidence_drop: float = Field(gt=0, le=1)
    rho_factor: float = Field(gt=0)

    def find(self, tables: AlertTables) -> DataFrame:
        """The runs and splits that meet the rule at their latest epoch, with the message."""
        drop = F.col("expected_confidence") - F.col("mean_confidence")
        unsure = F.format_string(
            "the unlabeled images may not be of these classes: mean confidence %.1f %%, expected %.1f %%",
            F.col("mean_confidence") * 100,
            F.col("expected_confidence") * 100,
        )
        imbalanced = F.format_string(
            "the unlabeled images may be too imbalanced to help: rho_U about %.1f, rho %.1f",
            F.col("rho_unlabeled"),
            F.col("rho"),
        )
        message = F.when(drop > self.confidence_drop, unsure).when(
            F.col("rho_unlabeled") > self.rho_factor * F.col("rho"), imbalanced
        )
        # An alert has no round, and a labelling no epoch.
        epoch = F.lit(0).cast("bigint").alias("epoch")
        newest = F.max("round").over(Window.partitionBy("run"))
        last = tables.unlabeled_estimates.withColumn("newest", newest).where(F.col("round") == F.col("newest"))
        found = last.withColumn("message", message).where(F.col("message").isNotNull())
        return found.select("run", F.lit(UNLABELED).alias("split"), epoch, "message")


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
    run_silent: RunSilent | None = None

    def active(self) -> dict[str, Rule]:
        """The rules that are on, by name."""
        return {name: rule for name, rule in vars(self).items() if rule is not None}


def is_held_out() -> Column:
    """Whether a row is about a held-out split."""
    return F.col("split").isin(*HELD_OUT_SPLITS)


def at_latest_epoch(table: DataFrame) -> DataFrame:
    """The rows of each run and split at its latest epoch."""
    last = F.max("epoch").over(Window.partitionBy("run", "split"))
    return table.withColumn("last_epoch", last).where(F.col("epoch") == F.col("last_epoch")).drop("last_epoch")


def _by_epoch() -> WindowSpec:
    return Window.partitionBy("run", "split").orderBy("epoch")


def _is_finite(name: str) -> Column:
    """Null counts as finite: nothing was measured."""
    value = F.col(name)
    return F.coalesce(~F.isnan(value) & (F.abs(value) != float("inf")), F.lit(True))


def _moved_in_each_epoch(value: Column, epochs: int, *, sign: int) -> Column:
    """Whether the value rose (sign 1) or fell (sign -1) in each of the last epochs."""
    moves = [
        sign * (F.lag(value, back).over(_by_epoch()) - F.lag(value, back + 1).over(_by_epoch())) > 0
        for back in range(epochs)
    ]
    # Null without an earlier epoch, or without classes in a group: then nothing has moved.
    return F.coalesce(reduce(Column.__and__, moves), F.lit(False))
