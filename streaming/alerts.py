"""Which runs need a look: alerts from the metric events, DataFrame -> DataFrame.

An alert speaks of a run's state at its latest epoch, on a held-out split. The
rules and their thresholds are data (conf/alerts.yaml).
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from conf.alerts import AlertRules, ForEpochs, Plateau

ALERT_COLUMNS = ["run", "split", "epoch", "rule", "message"]


def alerts(per_class: DataFrame, epochs: DataFrame, rules: AlertRules, *, now: float) -> DataFrame:
    """A row per alert: run, split, epoch, rule, message.

    per_class, epochs: the results of per_class_accuracy and epoch_summary; now: seconds since 1970-01-01 UTC
    """
    summary = epochs.where(F.col("split") != "train")
    found = [summary.limit(0).select("run", "split", "epoch", F.lit("").alias("rule"), F.lit("").alias("message"))]
    if rules.class_collapsed:
        collapsed = rules.class_collapsed
        found.append(
            per_class.where(F.col("split") != "train")
            .where((F.col("best_accuracy") > collapsed.once_above) & (F.col("accuracy") < collapsed.now_below))
            .select(*_alert("class_collapsed", "class %s fell to %.1f %%", "class_name", F.col("accuracy") * 100))
        )
    if rules.tail_falling:
        falling = _changed_in_a_row(summary, F.col("few_shot_accuracy"), rules.tail_falling, sign=-1)
        text = f"few-shot accuracy fell {rules.tail_falling.epochs} epochs in a row, to %.1f %%"
        found.append(falling.select(*_alert("tail_falling", text, F.col("few_shot_accuracy") * 100)))
    if rules.gap_widening:
        gap = F.col("many_shot_accuracy") - F.col("few_shot_accuracy")
        widening = _changed_in_a_row(summary, gap, rules.gap_widening, sign=1)
        text = f"the head-tail gap grew {rules.gap_widening.epochs} epochs in a row, to %.1f points"
        found.append(widening.select(*_alert("gap_widening", text, gap * 100)))
    if rules.plateau:
        text = f"no gain in {rules.plateau.epochs} epochs, balanced accuracy %.1f %%"
        stuck = _on_plateau(summary, rules.plateau)
        found.append(stuck.select(*_alert("plateau", text, F.col("balanced_accuracy") * 100)))
    if rules.run_silent:
        quiet_seconds = F.lit(now) - F.col("emitted_at")
        silent = _latest(summary).where(
            (F.col("epoch") < F.col("num_epochs")) & (quiet_seconds > rules.run_silent.seconds)
        )
        found.append(silent.select(*_alert("run_silent", "no event for %.0f s", quiet_seconds)))
    return reduce(DataFrame.unionByName, found).orderBy("run", "rule", "split", "message")


def _by_epoch() -> WindowSpec:
    return Window.partitionBy("run", "split").orderBy("epoch")


def _alert(rule: str, text: str, *arguments: Column | str) -> list[Column | str]:
    return ["run", "split", "epoch", F.lit(rule).alias("rule"), F.format_string(text, *arguments).alias("message")]


def _latest(summary: DataFrame) -> DataFrame:
    """Each run and split at its latest epoch."""
    last = F.max("epoch").over(Window.partitionBy("run", "split"))
    return summary.withColumn("last_epoch", last).where(F.col("epoch") == F.col("last_epoch")).drop("last_epoch")


def _changed_in_a_row(summary: DataFrame, value: Column, rule: ForEpochs, *, sign: int) -> DataFrame:
    """The latest epochs up to which `value` rose (sign 1) or fell (sign -1) rule.epochs times in a row."""
    recent = _by_epoch().rowsBetween(1 - rule.epochs, Window.currentRow)
    # Null where there is no epoch before, or no class in a group: then nothing is said to have changed.
    moved = F.coalesce((sign * (value - F.lag(value).over(_by_epoch())) > 0).cast("int"), F.lit(0))
    with_streak = summary.withColumn("moved", moved).withColumn("streak", F.sum("moved").over(recent))
    return _latest(with_streak).where(F.col("streak") == rule.epochs)


def _on_plateau(summary: DataFrame, rule: Plateau) -> DataFrame:
    recent = _by_epoch().rowsBetween(1 - rule.epochs, Window.currentRow)
    before = _by_epoch().rowsBetween(Window.unboundedPreceding, -rule.epochs)
    best_recent, best_before = F.max("balanced_accuracy").over(recent), F.max("balanced_accuracy").over(before)
    # Null while there are no epochs before the recent ones: no plateau yet.
    return _latest(summary.withColumn("gained", best_recent - best_before)).where(F.col("gained") < rule.gain)
