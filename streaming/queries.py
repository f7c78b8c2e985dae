"""What the metric events say: DataFrame -> DataFrame, on static frames and on the batches of a stream alike.

    events_of(events, ClassEvent) -> latest_class_events -> class_epochs -> epochs -> streaming/alerts.py
    events_of(events, ConfusionEvent) -> confusion -> confusion_flow
    events_of(events, StepEvent) -> steps
    events -> run_signs -> runs

Repetitions count once: of the events with one key the one of the highest attempt,
then the one emitted last, whatever order they come in. `before` is what is known of
earlier epochs already: class_epochs of a run's last epoch, given its own result for
the epochs before as `before`, is the same as from all its events at once.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import SHOT_GROUPS, UNLABELED
from longtail.streaming.events.schema import (
    FAILED,
    FINISHED,
    ClassEvent,
    Event,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    field_names,
)
from longtail.streaming.tables.store import BROKEN, DONE, RUNNING, TABLES


def latest(events: DataFrame, key: Sequence[str]) -> DataFrame:
    """One row per key: of the highest attempt the one emitted last."""
    order = [name for name in ("attempt", "emitted_at") if name in events.columns]
    rest = [name for name in events.columns if name not in key and name not in order]
    # The whole row takes part in the order: of two that differ in nothing else, always the same one is taken.
    newest = F.max(F.struct(*order, *rest)).alias("newest")
    return events.groupBy(*key).agg(newest).select(*key, "newest.*").select(*events.columns)


def events_of(events: DataFrame, kind: type[Event]) -> DataFrame:
    """The events of a kind, with its own fields."""
    return events.where(F.col("kind") == kind.kind).select(*own_fields(kind))


def own_fields(kind: type[Event]) -> list[str]:
    """The fields of an event kind, but for those that only tell the kind."""
    return [name for name in field_names(kind) if name not in ("schema_version", "kind")]


def latest_class_events(class_events: DataFrame) -> DataFrame:
    """One row per run, split, epoch and class."""
    return latest(class_events.select(*own_fields(ClassEvent)), ["run", "split", "epoch", "class_id"])


def class_scores(class_events: DataFrame) -> DataFrame:
    """Adds what an event says by itself: accuracy, precision, f1, mean_confidence and calibration_gap.

    It needs no other event, so that it runs on a stream without any state.
    """
    return (
        class_events.withColumn("accuracy", F.try_divide("correct", "support"))
        .withColumn("precision", F.try_divide("correct", "predicted"))
        .withColumn("f1", F.try_divide(2 * F.col("correct"), F.col("support") + F.col("predicted")))
        .withColumn("mean_confidence", F.try_divide("confidence_sum", "support"))
        .withColumn("calibration_gap", F.col("mean_confidence") - F.col("accuracy"))
    )


def class_epochs(facts: DataFrame, before: DataFrame | None = None) -> DataFrame:
    """A row per run, split, epoch and class.

    facts: latest_class_events
    before: rows of this table, of epochs before those of the facts; they are history and not in the result

    accuracy, precision, f1: null where there is nothing to divide by
    change: accuracy minus that of the class's epoch before, null in the first
    best_accuracy: the highest so far
    true_share, predicted_share: of the split's images, those of the class, and those predicted as it
    mean_confidence, calibration_gap: of the class's images; the gap is confidence minus accuracy: above 0, too sure
    """
    of_epoch = Window.partitionBy("run", "split", "epoch")
    scored = (
        class_scores(facts)
        .withColumn("true_share", F.try_divide("support", F.sum("support").over(of_epoch)))
        .withColumn("predicted_share", F.try_divide("predicted", F.sum("predicted").over(of_epoch)))
    )
    return _with_history(
        scored, before, key=["run", "split", "class_id"], value="accuracy", best="best_accuracy", change="change"
    ).select(*TABLES["class_epochs"].names)


def pseudo_label_scores(classes: DataFrame) -> DataFrame:
    """How right the pseudo-labels were that a training made in its steps: a row per run, epoch and class.

    classes: class_epochs

    images: unlabeled images of the class that the epoch saw; pseudo_labels: surely taken for the class; correct: of
    these, those that are of it; precision: correct over pseudo_labels; recall: correct over images; null without any
    """
    return (
        classes.where(F.col("split") == UNLABELED)
        .select(
            "run", "epoch", "class_id", "class_name", "shot_group",
            F.col("support").alias("images"), F.col("predicted").alias("pseudo_labels"), "correct", "precision",
            F.col("accuracy").alias("recall"),
        )
        .orderBy("run", "epoch", "class_id")
    )  # fmt: skip


def epochs(classes: DataFrame, before: DataFrame | None = None) -> DataFrame:
    """A row per run, split and epoch.

    classes: class_epochs; before: rows of this table, of epochs before those of the classes

    accuracy: over images; balanced_accuracy and many/medium/few_shot_accuracy: mean of class accuracies, null for a
    group without classes; head_tail_gap: many minus few; label_bias: Kullback-Leibler divergence (nats) of the
    predicted from the true class shares, infinite if a class that the split lacks is predicted; calibration_gap: mean
    confidence minus accuracy, over images; loss: mean over images
    """

    def group_accuracy(group: str) -> Column:
        return F.avg(F.when(F.col("shot_group") == group, F.col("accuracy"))).alias(f"{group}_shot_accuracy")

    # 0 * log 0 is 0: a class that is never predicted adds nothing. Predicting an absent class is infinitely far off.
    divergence = (
        F.when(F.col("predicted_share") == 0, 0.0)
        .when(F.col("true_share") == 0, float("inf"))
        .otherwise(F.col("predicted_share") * F.log(F.col("predicted_share") / F.col("true_share")))
    )
    summed = (
        classes.groupBy("run", "split", "epoch")
        .agg(
            F.max("phase").alias("phase"),
            F.max("num_epochs").alias("num_epochs"),
            F.try_divide(F.sum("correct"), F.sum("support")).alias("accuracy"),
            F.avg("accuracy").alias("balanced_accuracy"),
            *map(group_accuracy, SHOT_GROUPS),
            F.sum(divergence).alias("label_bias"),
            F.try_divide(F.sum("confidence_sum") - F.sum("correct"), F.sum("support")).alias("calibration_gap"),
            F.try_divide(F.sum("loss_sum"), F.sum("support")).alias("loss"),
            F.max("epoch_seconds").alias("epoch_seconds"),
            F.max("images_per_second").alias("images_per_second"),
            F.max("emitted_at").alias("emitted_at"),
        )
        .withColumn("head_tail_gap", F.col("many_shot_accuracy") - F.col("few_shot_accuracy"))
    )
    return _with_history(
        summed, before, key=["run", "split"], value="balanced_accuracy", best="best_balanced_accuracy"
    ).select(*TABLES["epochs"].names)


def _with_history(
    rows: DataFrame,
    before: DataFrame | None,
    *,
    key: list[str],
    value: str,
    best: str,
    change: str = "_change",
) -> DataFrame:
    """Adds to each row the best value up to its epoch, and the change of the value since the key's row before."""
    own = rows.withColumn("_best_before", F.lit(None).cast("double")).withColumn("_is_before", F.lit(False))
    if before is not None:
        known = before.withColumn("_best_before", F.col(best)).withColumn("_is_before", F.lit(True))
        own = own.unionByName(
            known.select(*key, "epoch", value, "_best_before", "_is_before"), allowMissingColumns=True
        )
    history = Window.partitionBy(*key).orderBy("epoch")
    so_far = history.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return (
        own.withColumn(change, F.col(value) - F.lag(value).over(history))
        .withColumn(best, F.greatest(F.max(value).over(so_far), F.max("_best_before").over(so_far)))
        .where(~F.col("_is_before"))
    )


def confusion(reports: DataFrame) -> DataFrame:
    """The confusion matrix of each run and split at its latest epoch, by the highest attempt: its cells above zero.

    reports: confusion events, and rows of this table
    """
    newest = F.max(F.struct("epoch", "attempt")).over(Window.partitionBy("run", "split"))
    of_newest = reports.withColumn("newest", newest).where(F.struct("epoch", "attempt") == F.col("newest"))
    return latest(
        of_newest.select(*TABLES["confusion"].names), ["run", "split", "epoch", "true_class", "predicted_class"]
    )


def confusion_flow(cells: DataFrame, classes: DataFrame, *, num_flows: int = 3) -> DataFrame:
    """Which class eats which: for each class, the wrong classes that most of its images are taken for.

    cells: confusion; classes: class_epochs, for names and groups
    num_flows: at most so many a class; share: of the class's images
    """
    names = classes.groupBy("run", "class_id").agg(
        F.max("class_name").alias("class_name"), F.max("shot_group").alias("shot_group")
    )
    by_true = Window.partitionBy("run", "split", "true_class")
    flows = (
        cells.withColumn("share", F.col("count") / F.sum("count").over(by_true))
        .where(F.col("true_class") != F.col("predicted_class"))
        .withColumn("place", F.row_number().over(by_true.orderBy(F.desc("count"), "predicted_class")))
        .where(F.col("place") <= num_flows)
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


def steps(reports: DataFrame) -> DataFrame:
    """How learning goes inside the epochs; of an epoch that was begun twice, as the highest attempt tells it.

    reports: step events, and rows of this table
    """
    told = latest(reports.select(*TABLES["steps"].names), ["run", "epoch", "step"])
    newest = F.max("attempt").over(Window.partitionBy("run", "epoch"))
    return told.withColumn("newest", newest).where(F.col("attempt") == F.col("newest")).drop("newest")


def run_signs(events: DataFrame) -> DataFrame:
    """Each event as a row of `runs`: all that it tells of its run. `runs` sums such rows up, its own included."""
    is_run, told = F.col("kind") == RunEvent.kind, F.col("kind") != PseudoLabelEvent.kind
    status = F.when(F.col("state") == FINISHED, DONE).when(F.col("state") == FAILED, BROKEN).otherwise(RUNNING)
    return events.where(told).select(
        "run",
        "attempt",
        "phase",
        F.when(is_run, status).alias("status"),
        F.col("emitted_at").alias("started_at"),
        F.col("emitted_at").alias("updated_at"),
        # A step's epoch is not finished, and who tells of a failure may not know how far the run came.
        F.when(F.col("kind") != StepEvent.kind, F.col("epoch")).alias("epoch"),
        "num_epochs",
        F.when(is_run, F.col("configuration")).alias("configuration"),
        F.when(is_run, F.col("message")).alias("message"),
        F.when(is_run, F.col("emitted_at")).alias("state_at"),
    )


def runs(signs: DataFrame) -> DataFrame:
    """A row per run: where its latest attempt stands.

    signs: run_signs of the events, and rows of this table for what earlier events told
    """
    told = F.when(F.col("status").isNotNull(), F.struct("attempt", "state_at", "status", "configuration", "message"))
    summed = signs.groupBy("run").agg(
        F.max("attempt").alias("attempt"),
        F.max("phase").alias("phase"),
        F.max(told).alias("told"),
        F.min("started_at").alias("started_at"),
        F.max("updated_at").alias("updated_at"),
        F.max("epoch").alias("epoch"),
        F.max("num_epochs").alias("num_epochs"),
    )
    # What an earlier attempt said last does not hold once a later one is heard of.
    holds = F.col("told.attempt") == F.col("attempt")
    return summed.select(
        "run",
        "attempt",
        "phase",
        F.when(holds, F.col("told.status")).otherwise(RUNNING).alias("status"),
        "started_at",
        "updated_at",
        "epoch",
        "num_epochs",
        F.col("told.configuration").alias("configuration"),
        F.when(holds, F.col("told.message")).otherwise("").alias("message"),
        F.when(holds, F.col("told.state_at")).otherwise(F.lit(None)).alias("state_at"),
    )


def throughput(summaries: DataFrame) -> DataFrame:
    """A row per run, from `epochs`: mean images a second and seconds an epoch, and the seconds left at that pace."""
    # Every split of an epoch repeats its time.
    of_epoch = summaries.groupBy("run", "epoch").agg(
        F.max("num_epochs").alias("num_epochs"),
        F.max("epoch_seconds").alias("epoch_seconds"),
        F.max("images_per_second").alias("images_per_second"),
    )
    return (
        of_epoch.groupBy("run")
        .agg(
            F.max("epoch").alias("epoch"),
            F.max("num_epochs").alias("num_epochs"),
            F.avg("images_per_second").alias("images_per_second"),
            F.avg("epoch_seconds").alias("epoch_seconds"),
        )
        .withColumn("seconds_left", (F.col("num_epochs") - F.col("epoch")) * F.col("epoch_seconds"))
        .orderBy("run")
    )


def compared(summaries: DataFrame, *, base: str, other: str) -> DataFrame:
    """Two runs at the same epoch, a row per split and epoch that both have: each score of both, and the gain.

    summaries: epochs; the question of the paper, live: what unlabeled data or pre-training (other) adds to base
    """
    scores = ["accuracy", "balanced_accuracy", "many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy"]

    def of_run(run: str, name: str) -> DataFrame:
        columns = [F.col(score).alias(f"{name}_{score}") for score in scores]
        return summaries.where(F.col("run") == run).select("split", "epoch", *columns)

    gains = [(F.col(f"other_{score}") - F.col(f"base_{score}")).alias(f"{score}_gain") for score in scores]
    both = of_run(base, "base").join(of_run(other, "other"), ["split", "epoch"])
    return both.select("*", *gains).orderBy("split", "epoch")
