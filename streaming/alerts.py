"""Which runs need a look: alerts from the tables of the live query, DataFrame -> DataFrame.

An alert speaks of a run's state at its latest epoch, mostly on a held-out split. The
rules and their thresholds are data (conf/alerts.yaml). That a run is silent is no
matter of its events, but of the time since: streaming/tables/store.py says it when
the alerts are read.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from longtail.conf.alerts import AlertRules, ClassCollapsed, ForEpochs, Plateau, UnlabeledIrrelevant
from longtail.conf.vocabulary import HELD_OUT_SPLITS, TRAIN
from longtail.streaming.tables.store import TABLES

ALERT_COLUMNS = TABLES["alerts"].names


def alerts(
    classes: DataFrame, epochs: DataFrame, steps: DataFrame, unlabeled: DataFrame, rules: AlertRules
) -> DataFrame:
    """A row per alert: run, split, epoch, rule, message.

    classes, epochs, steps, unlabeled: the tables of the same names. Of epochs the last epochs_needed(rules) are enough,
    of classes and steps the last one.
    """
    found = [_of_epochs(epochs, rules)]
    if rules.class_collapsed:
        found.append(_collapsed(classes, rules.class_collapsed))
    if rules.nan_loss:
        found.append(_nan_inside(steps))
    if rules.unlabeled_irrelevant:
        found.append(_irrelevant(unlabeled, rules.unlabeled_irrelevant))
    return reduce(DataFrame.unionByName, found).orderBy("run", "rule", "split", "message")


def _of_epochs(epochs: DataFrame, rules: AlertRules) -> DataFrame:
    """What a run's last epochs say: all of these rules look at the same row, beside those before it."""
    held_out = F.col("split").isin(*HELD_OUT_SPLITS)
    found = []
    if rule := rules.tail_falling:
        text = f"few-shot accuracy fell {rule.epochs} epochs in a row, to %.1f %%"
        falls = held_out & _moved_in_a_row(F.col("few_shot_accuracy"), rule, sign=-1)
        found.append(_alert_if(falls, "tail_falling", text, F.col("few_shot_accuracy") * 100))
    if rule := rules.gap_widening:
        text = f"the head-tail gap grew {rule.epochs} epochs in a row, to %.1f points"
        grows = held_out & _moved_in_a_row(F.col("head_tail_gap"), rule, sign=1)
        found.append(_alert_if(grows, "gap_widening", text, F.col("head_tail_gap") * 100))
    if rule := rules.plateau:
        text = f"no gain in {rule.epochs} epochs, balanced accuracy %.1f %%"
        stuck = held_out & _on_plateau(rule)
        found.append(_alert_if(stuck, "plateau", text, F.col("balanced_accuracy") * 100))
    if rules.nan_loss:
        found.append(_alert_if(~_is_finite("loss"), "nan_loss", "the loss is %s", F.col("loss").cast("string")))
    none = F.lit(None).cast("struct<rule: string, message: string>")
    last = _latest(epochs.withColumn("found", F.array_compact(F.array(none, *found))))
    return last.select("run", "split", "epoch", F.explode("found").alias("alert")).select(
        "run", "split", "epoch", "alert.rule", "alert.message"
    )


def _collapsed(classes: DataFrame, rule: ClassCollapsed) -> DataFrame:
    collapsed = (F.col("best_accuracy") > rule.once_above) & (F.col("accuracy") < rule.now_below)
    message = F.format_string("class %s fell to %.1f %%", "class_name", F.col("accuracy") * 100)
    last = _latest(classes.where(F.col("split").isin(*HELD_OUT_SPLITS))).where(collapsed)
    return last.select("run", "split", "epoch", F.lit("class_collapsed").alias("rule"), message.alias("message"))


def _nan_inside(steps: DataFrame) -> DataFrame:
    """The first step of a run's last epoch at which the loss was lost."""
    last = _latest(steps.withColumn("split", F.lit(TRAIN))).where(~_is_finite("loss"))
    first = last.groupBy("run", "split", "epoch").agg(F.min(F.struct("step", "loss")).alias("first"))
    message = F.format_string("the loss is %s at step %d", F.col("first.loss").cast("string"), F.col("first.step"))
    return first.select("run", "split", "epoch", F.lit("nan_loss").alias("rule"), message.alias("message"))


def epochs_needed(rules: AlertRules) -> int:
    """How many of the latest epochs the rules look at."""
    spans = [rule.epochs for rule in (rules.tail_falling, rules.gap_widening, rules.plateau) if rule]
    return 1 + max(spans, default=0)


def _by_epoch() -> WindowSpec:
    return Window.partitionBy("run", "split").orderBy("epoch")


def _alert_if(condition: Column, rule: str, text: str, *arguments: Column) -> Column:
    """The alert as a struct, or null."""
    message = F.format_string(text, *arguments).alias("message")
    return F.when(condition, F.struct(F.lit(rule).alias("rule"), message))


def _latest(table: DataFrame) -> DataFrame:
    """Each run and split at its latest epoch."""
    last = F.max("epoch").over(Window.partitionBy("run", "split"))
    return table.withColumn("last_epoch", last).where(F.col("epoch") == F.col("last_epoch")).drop("last_epoch")


def _is_finite(name: str) -> Column:
    """Null counts as finite: nothing was measured."""
    value = F.col(name)
    return F.coalesce(~F.isnan(value) & (F.abs(value) != float("inf")), F.lit(True))


def _moved_in_a_row(value: Column, rule: ForEpochs, *, sign: int) -> Column:
    """Whether the value rose (sign 1) or fell (sign -1) in each of the last rule.epochs epochs."""
    moves = [
        sign * (F.lag(value, back).over(_by_epoch()) - F.lag(value, back + 1).over(_by_epoch())) > 0
        for back in range(rule.epochs)
    ]
    # Null where there is no epoch before, or no class in a group: then nothing is said to have changed.
    return F.coalesce(reduce(Column.__and__, moves), F.lit(False))


def _on_plateau(rule: Plateau) -> Column:
    best_recent = F.max("balanced_accuracy").over(_by_epoch().rowsBetween(1 - rule.epochs, Window.currentRow))
    best_before = F.lag("best_balanced_accuracy", rule.epochs).over(_by_epoch())
    # Null while there are no epochs before the recent ones: no plateau yet.
    return F.coalesce(best_recent - best_before < rule.gain, F.lit(False))


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
