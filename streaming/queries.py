"""What the metric events say: DataFrame -> DataFrame, on static and streaming frames alike.

    events -> latest_events -> per_class_accuracy, epoch_summary

`latest_events` is the only step that keeps state over time; what follows works
on its result, epoch against epoch.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from streaming.events import EVENT_SCHEMA_VERSION

EVENT_KEY = ["run", "split", "epoch", "class_id"]


def latest_events(events: DataFrame) -> DataFrame:
    """One row per run, split, epoch and class: of repetitions the one of the latest attempt.

    A run that was killed repeats its last epoch; a file may be delivered twice. Rows of another schema version, or
    without a key, are dropped.
    """
    known = events.where(F.col("schema_version") == EVENT_SCHEMA_VERSION).dropna(subset=EVENT_KEY)
    payload = [name for name in events.columns if name not in EVENT_KEY]
    latest = F.max_by(F.struct(*payload), F.struct("attempt", "emitted_at")).alias("payload")
    return known.groupBy(*EVENT_KEY).agg(latest).select(*EVENT_KEY, "payload.*")


def _with_class_scores(facts: DataFrame) -> DataFrame:
    """Adds, per event: accuracy (null without images), true_share and predicted_share of the split's images."""
    of_epoch = Window.partitionBy("run", "split", "epoch")
    return (
        facts.withColumn("accuracy", F.try_divide("correct", "support"))
        .withColumn("true_share", F.try_divide("support", F.sum("support").over(of_epoch)))
        .withColumn("predicted_share", F.try_divide("predicted", F.sum("predicted").over(of_epoch)))
    )


def per_class_accuracy(facts: DataFrame) -> DataFrame:
    """The state of each run, a row per run, split and class, at the latest epoch that the run has reported.

    accuracy: share of the class's images that are predicted right, null if it has none
    change: accuracy minus that of the epoch before, null in the first
    best_accuracy: the highest of all epochs
    predicted_share, true_share: of the split's images, those predicted as the class, and those that are
    """
    history = Window.partitionBy("run", "split", "class_id").orderBy("epoch")
    so_far = history.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    of_run = Window.partitionBy("run", "split")
    return (
        _with_class_scores(facts)
        .withColumn("change", F.col("accuracy") - F.lag("accuracy").over(history))
        .withColumn("best_accuracy", F.max("accuracy").over(so_far))
        .withColumn("last_epoch", F.max("epoch").over(of_run))
        .where(F.col("epoch") == F.col("last_epoch"))
        .select(
            "run", "phase", "split", "epoch", "num_epochs", "class_id", "class_name", "shot_group", "train_count",
            "support", "accuracy", "change", "best_accuracy", "true_share", "predicted_share",
        )
        .orderBy("run", "split", "class_id")
    )  # fmt: skip


def epoch_summary(facts: DataFrame) -> DataFrame:
    """A row per run, split and epoch.

    accuracy: over images; balanced_accuracy and many/medium/few_shot_accuracy: mean of class accuracies, null for a
    group without classes; label_bias: Kullback-Leibler divergence (nats) of the predicted from the true class shares,
    infinite if a class that the split lacks is predicted; loss: mean over images
    """

    def group_accuracy(group: str) -> F.Column:
        return F.avg(F.when(F.col("shot_group") == group, F.col("accuracy"))).alias(f"{group}_shot_accuracy")

    # 0 * log 0 is 0: a class that is never predicted adds nothing. Predicting an absent class is infinitely far off.
    divergence = (
        F.when(F.col("predicted_share") == 0, 0.0)
        .when(F.col("true_share") == 0, float("inf"))
        .otherwise(F.col("predicted_share") * F.log(F.col("predicted_share") / F.col("true_share")))
    )
    return (
        _with_class_scores(facts)
        .groupBy("run", "phase", "split", "epoch", "num_epochs")
        .agg(
            F.try_divide(F.sum("correct"), F.sum("support")).alias("accuracy"),
            F.avg("accuracy").alias("balanced_accuracy"),
            group_accuracy("many"),
            group_accuracy("medium"),
            group_accuracy("few"),
            F.sum(divergence).alias("label_bias"),
            F.try_divide(F.sum("loss_sum"), F.sum("support")).alias("loss"),
            F.max("epoch_seconds").alias("epoch_seconds"),
            F.max("images_per_second").alias("images_per_second"),
            F.max("emitted_at").alias("emitted_at"),
        )
        .orderBy("run", "split", "epoch")
    )
