"""Queries on the result tables for notebooks and programs of your own: DataFrame -> DataFrame.

    epochs -> compared: the gain of one run over another
    epochs -> throughput: speed, and the time left
    confusion, class_epochs -> confusion_flow: the classes that are most often mistaken, and for which
    class_epochs -> pseudo_label_scores: quality of the pseudo-labels that a training makes in its steps
    pseudo_labels -> pseudo_label_drift: changes between two rounds of pseudo-labels
    runs -> with_lost_runs: which running runs are lost, for tables that no reader of Longtail has judged

The tables come from streaming/queries.py, or from the live query: `spark.createDataFrame(read_result_table(...))`.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import SHOT_GROUPS, UNLABELED
from longtail.streaming.on_streams import not_on_streams
from longtail.streaming.tables.schemas import LOST, RUNNING

_ON_TABLES = "give it the live tables, as spark.createDataFrame(read_result_table(...))"


@not_on_streams(_ON_TABLES)
def compared(summaries: DataFrame, *, base: str, other: str) -> DataFrame:
    """Two runs at the same epochs: one row per split and epoch that both have, with each score of both and the gain.

    summaries: epochs
    base, other: names of the runs; gain is other minus base, e.g. the benefit of unlabeled data or of pre-training
    """
    scores = ["accuracy", "balanced_accuracy", *(f"{group}_shot_accuracy" for group in SHOT_GROUPS)]

    def scores_of(run: str, name: str) -> DataFrame:
        columns = [F.col(score).alias(f"{name}_{score}") for score in scores]
        return summaries.where(F.col("run") == run).select("split", "epoch", *columns)

    gains = [(F.col(f"other_{score}") - F.col(f"base_{score}")).alias(f"{score}_gain") for score in scores]
    both = scores_of(base, "base").join(scores_of(other, "other"), ["split", "epoch"])
    return both.select("*", *gains).orderBy("split", "epoch")


@not_on_streams(_ON_TABLES)
def throughput(summaries: DataFrame) -> DataFrame:
    """One row per run: mean images per second and seconds per epoch, and the seconds left at this speed.

    summaries: epochs
    """
    # The splits of an epoch all have its duration.
    by_epoch = summaries.groupBy("run", "epoch").agg(
        F.max("num_epochs").alias("num_epochs"),
        F.max("epoch_seconds").alias("epoch_seconds"),
        F.max("images_per_second").alias("images_per_second"),
    )
    return (
        by_epoch.groupBy("run")
        .agg(
            F.max("epoch").alias("epoch"),
            F.max("num_epochs").alias("num_epochs"),
            F.avg("images_per_second").alias("images_per_second"),
            F.avg("epoch_seconds").alias("epoch_seconds"),
        )
        .withColumn("seconds_left", (F.col("num_epochs") - F.col("epoch")) * F.col("epoch_seconds"))
        .orderBy("run")
    )


@not_on_streams(_ON_TABLES)
def confusion_flow(cells: DataFrame, classes: DataFrame, *, num_flows: int = 3) -> DataFrame:
    """For each class, the wrong classes that are predicted most often: at most num_flows rows per class.

    cells: confusion
    classes: class_epochs, for names and shot groups

    share: count over all images of the true class
    """
    names = classes.groupBy("run", "class_id").agg(
        F.max("class_name").alias("class_name"), F.max("shot_group").alias("shot_group")
    )
    by_true_class = Window.partitionBy("run", "split", "true_class")
    flows = (
        cells.withColumn("share", F.col("count") / F.sum("count").over(by_true_class))
        .where(F.col("true_class") != F.col("predicted_class"))
        .withColumn("rank", F.row_number().over(by_true_class.orderBy(F.desc("count"), "predicted_class")))
        .where(F.col("rank") <= num_flows)
    )
    for side in ("true", "predicted"):
        renamed = names.select(
            "run",
            F.col("class_id").alias(f"{side}_class"),
            F.col("class_name").alias(f"{side}_name"),
            F.col("shot_group").alias(f"{side}_group"),
        )
        flows = flows.join(renamed, ["run", f"{side}_class"], "left")
    return flows.select(
        "run", "split", "epoch", "true_class", "true_name", "true_group", "predicted_class", "predicted_name",
        "predicted_group", "count", "share",
    ).orderBy("run", "split", "true_class", F.desc("count"), "predicted_class")  # fmt: skip


@not_on_streams(_ON_TABLES)
def pseudo_label_scores(classes: DataFrame) -> DataFrame:
    """Quality of the pseudo-labels that a training makes in its steps: one row per run, epoch and class.

    classes: class_epochs

    images: unlabeled images of the class in the epoch; pseudo_labels: images confidently predicted as the class;
    correct: of these, the images that belong to it; precision: correct over pseudo_labels; recall: correct over images,
    with its 95 % interval; null where the denominator is 0
    """
    return (
        classes.where(F.col("split") == UNLABELED)
        .select(
            "run", "epoch", "class_id", "class_name", "shot_group",
            F.col("support").alias("images"), F.col("predicted").alias("pseudo_labels"), "correct", "precision",
            F.col("accuracy").alias("recall"), F.col("accuracy_low").alias("recall_low"),
            F.col("accuracy_high").alias("recall_high"),
        )
        .orderBy("run", "epoch", "class_id")
    )  # fmt: skip


@not_on_streams(_ON_TABLES)
def pseudo_label_drift(labels: DataFrame) -> DataFrame:
    """Changes from the pseudo-labels that a classifier was trained on to those that it made: one row per class.

    labels: pseudo_labels

    The change of the confidence is null where the class had no pseudo-labels.
    """
    before = labels.select(
        F.col("run").alias("previous_run"),
        (F.col("round") + 1).alias("round"),
        "class_id",
        F.col("pseudo_label_count").alias("count_before"),
        F.col("mean_confidence").alias("confidence_before"),
    )
    return (
        labels.join(before, ["previous_run", "round", "class_id"])
        .withColumn("count_change", F.col("pseudo_label_count") - F.col("count_before"))
        .withColumn("confidence_change", F.col("mean_confidence") - F.col("confidence_before"))
        .select(
            "run", "previous_run", "round", "class_id", "class_name", "pseudo_label_count", "count_before",
            "count_change", "mean_confidence", "confidence_before", "confidence_change",
        )
        .orderBy("run", "round", "class_id")
    )  # fmt: skip


@not_on_streams(_ON_TABLES)
def with_lost_runs(states: DataFrame, *, now: float, silent_seconds: float) -> DataFrame:
    """The rows with the status `lost` where a running run has sent no event for too long at a moment.

    states: runs of streaming/queries.py or of the Delta tables; `read_result_table` judges by heartbeats, too
    now: seconds since 1970-01-01 UTC
    silent_seconds: `run_silent` in conf/alerts.yaml
    """
    is_lost = (F.col("status") == RUNNING) & (now - F.col("updated_at") > silent_seconds)
    return states.withColumn("status", F.when(is_lost, LOST).otherwise(F.col("status")))
