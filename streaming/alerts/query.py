"""Finds the runs that need attention: DataFrame -> DataFrame."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.streaming.alerts.rules import AlertRules, AlertTables, at_latest_epoch
from longtail.streaming.tables.schemas import TABLES


def find_alerts(tables: AlertTables, rules: AlertRules) -> DataFrame:
    """One row per alert: run, split, epoch, rule, message.

    tables: of `epochs` the last num_epochs_needed(rules) epochs of each run and split are enough
    """
    found = [_find_epoch_alerts(tables.epochs, rules)]
    for name, rule in rules.active().items():
        alerts = rule.find(tables)
        if alerts is not None:
            found.append(alerts.withColumn("rule", F.lit(name)).select(*TABLES["alerts"].names))
    return reduce(DataFrame.unionByName, found).orderBy("run", "rule", "split", "message")


def num_epochs_needed(rules: AlertRules) -> int:
    """How many of the latest epochs the rules look at."""
    return 1 + max((rule.num_earlier_epochs for rule in rules.active().values()), default=0)


def _find_epoch_alerts(epochs: DataFrame, rules: AlertRules) -> DataFrame:
    """The alerts about rows of `epochs`, all from one pass over the table."""
    alerts = [F.lit(None).cast("struct<rule: string, message: string>")]
    for name, rule in rules.active().items():
        if check := rule.check_epoch():
            condition, message = check
            alerts.append(F.when(condition, F.struct(F.lit(name).alias("rule"), message.alias("message"))))
    last = at_latest_epoch(epochs.withColumn("found", F.array_compact(F.array(*alerts))))
    return last.select("run", "split", "epoch", F.explode("found").alias("alert")).select(
        "run", "split", "epoch", "alert.rule", "alert.message"
    )
