"""Which runs need a look: alerts from the tables of the live query, DataFrame -> DataFrame.

An alert speaks of a run's state at its latest epoch, mostly on a held-out split. The
rules and their thresholds are data (conf/alerts.yaml). That a run is silent is no
matter of its events, but of the time since: streaming/result_tables.py says it when
the alerts are read.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from conf.alerts import AlertRules, ForEpochs, Plateau, UnlabeledIrrelevant
from streaming.events import TRAIN_SPLIT
from streaming.result_tables import TABLES

ALERT_COLUMNS = TABLES["alerts"].names


def alerts(
    classes: DataFrame, epochs: DataFrame, steps: DataFrame, unlabeled: DataFrame, rules: AlertRules
) -> DataFrame:
    """A row per alert: run, split, epoch, rule, message.

    classes, epochs, steps, unlabeled: the tables of the same names. Of epochs the last epochs_needed(rules) are enough,
    of classes and steps the last one.
    """
    summary = epochs.where(F.col("split") != TRAIN_SPLIT)
    found = [summary.limit(0).select("run", "split", "epoch", F.lit("").alias("rule"), F.lit("").alias("message"))]
    if rules.class_collapsed:
        collapsed = rules.class_collapsed
        found.append(
            _latest(classes.where(F.col("split") != TRAIN_SPLIT))
            .where((F.col("best_accuracy") > collapsed.once_above) & (F.col("accuracy") < collapsed.now_below))
            .select(*_alert("class_collapsed", "class %s fell to %.1f %%", "class_name", F.col("accuracy") * 100))
        )
    if rules.tail_falling:
        falling = _changed_in_a_row(summary, F.col("few_shot_accuracy"), rules.tail_falling, sign=-1)
        text = f"few-shot accuracy fell {rules.tail_falling.epochs} epochs in a row, to %.1f %%"
        found.append(falling.select(*_alert("tail_falling", text, F.col("few_shot_accuracy") * 100)))
    if rules.gap_widening:
        widening = _changed_in_a_row(summary, F.col("head_tail_gap"), rules.gap_widening, sign=1)
        text = f"the head-tail gap grew {rules.gap_widening.epochs} epochs in a row, to %.1f points"
        found.append(widening.select(*_alert("gap_widening", text, F.col("head_tail_gap") * 100)))
    if rules.plateau:
        text = f"no gain in {rules.plateau.epochs} epochs, balanced accuracy %.1f %%"
        stuck = _on_plateau(summary, rules.plateau)
        found.append(stuck.select(*_alert("plateau", text, F.col("balanced_accuracy") * 100)))
    if rules.nan_loss:
        lost = _latest(epochs).where(~_is_finite("loss"))
        found.append(lost.select(*_alert("nan_loss", "the loss is %s", F.col("loss").cast("string"))))
        inside = _latest(steps.withColumn("split", F.lit(TRAIN_SPLIT))).where(~_is_finite("loss"))
        first = inside.groupBy("run", "split", "epoch").agg(F.min(F.struct("step", "loss")).alias("first"))
        loss, step = F.col("first.loss").cast("string"), F.col("first.step")
        found.append(first.select(*_alert("nan_loss", "the loss is %s at step %d", loss, step)))
    if rules.unlabeled_irrelevant:
        found.append(_irrelevant(unlabeled, rules.unlabeled_irrelevant))
    return reduce(DataFrame.unionByName, found).orderBy("run", "rule", "split", "message")


def epochs_needed(rules: AlertRules) -> int:
    """How many of the latest epochs the rules look at."""
    spans = [rule.epochs for rule in (rules.tail_falling, rules.gap_widening, rules.plateau) if rule]
    return 1 + max(spans, default=0)


def _by_epoch() -> WindowSpec:
    return Window.partitionBy("run", "split").orderBy("epoch")


def _alert(rule: str, text: str, *arguments: Column | str) -> list[Column | str]:
    return ["run", "split", "epoch", F.lit(rule).alias("rule"), F.format_string(text, *arguments).alias("message")]


def _latest(table: DataFrame) -> DataFrame:
    """Each run and split at its latest epoch."""
    last = F.max("epoch").over(Window.partitionBy("run", "split"))
    return table.withColumn("last_epoch", last).where(F.col("epoch") == F.col("last_epoch")).drop("last_epoch")


def _is_finite(name: str) -> Column:
    """Null counts as finite: nothing was measured."""
    value = F.col(name)
    return F.coalesce(~F.isnan(value) & (F.abs(value) != float("inf")), F.lit(True))


def _changed_in_a_row(summary: DataFrame, value: Column, rule: ForEpochs, *, sign: int) -> DataFrame:
    """The latest epochs up to which `value` rose (sign 1) or fell (sign -1) rule.epochs times in a row."""
    recent = _by_epoch().rowsBetween(1 - rule.epochs, Window.currentRow)
    # Null where there is no epoch before, or no class in a group: then nothing is said to have changed.
    moved = F.coalesce((sign * (value - F.lag(value).over(_by_epoch())) > 0).cast("int"), F.lit(0))
    with_streak = summary.withColumn("moved", moved).withColumn("streak", F.sum("moved").over(recent))
    return _latest(with_streak).where(F.col("streak") == rule.epochs)


def _on_plateau(summary: DataFrame, rule: Plateau) -> DataFrame:
    best_recent = F.max("balanced_accuracy").over(_by_epoch().rowsBetween(1 - rule.epochs, Window.currentRow))
    best_before = F.lag("best_balanced_accuracy", rule.epochs).over(_by_epoch())
    # Null while there are no epochs before the recent ones: no plateau yet.
    return _latest(summary.withColumn("gained", best_recent - best_before)).where(F.col("gained") < rule.gain)


def _irrelevant(unlabeled: DataFrame, rule: UnlabeledIrrelevant) -> DataFrame:
    """Pseudo-labels less sure than held-out images, or of an unlabeled part more imbalanced than the labelled one."""
    drop = F.col("expected_confidence") - F.col("mean_confidence")
    unsure = F.format_string(
        "the unlabeled images may not be of these classes: mean confidence %.1f %%, expected %.1f %%",
        F.col("mean_confidence") * 100,
        F.col("expected_confidence") * 100,
    )
    imbalanced = F.format_string(
        "the unlabeled part may be too imbalanced to help: rho_U about %.1f, rho %.1f",
        F.col("rho_unlabeled"),
        F.col("rho"),
    )
    message = F.when(drop > rule.confidence_drop, unsure).when(
        F.col("rho_unlabeled") > rule.rho_factor * F.col("rho"), imbalanced
    )
    # An alert has no round; its epoch is that of none.
    nowhere = [F.lit("unlabeled").alias("split"), F.lit(0).cast("bigint").alias("epoch")]
    newest = F.max("round").over(Window.partitionBy("run"))
    last = unlabeled.withColumn("newest", newest).where(F.col("round") == F.col("newest"))
    found = last.withColumn("message", message).where(F.col("message").isNotNull())
    return found.select("run", *nowhere, F.lit("unlabeled_irrelevant").alias("rule"), "message")
