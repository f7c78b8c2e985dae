"""Queries from metric events to result tables: DataFrame -> DataFrame, on static DataFrames.

They define the tables. The live query computes the same ones from micro-batches with Arrow and numpy
(streaming/kernels/), which is faster; tests compare the two, so a change here needs one there.

    events_of(events, ClassEvent) -> latest_class_events -> class_epochs -> epochs -> streaming/alerts
    events_of(events, ConfusionEvent) -> confusion
    events_of(events, StepEvent) -> steps
    events_of(events, PseudoLabelEvent) -> pseudo_labels
    events_of(events, PredictionEvent) -> predictions
    events -> run_updates -> runs

Repeated events count once: of the events with the same key the one of the highest attempt that was emitted last counts,
in whatever order they arrive. An attempt also voids what earlier ones have of its first epoch and of all later ones: it
may have fewer epochs, classes or splits than they had. `before` passes results for earlier epochs: class_epochs of the
last epoch of a run, with the results for those before it as `before`, equals class_epochs of all its events at once.
"""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.streaming.events.schema import (
    END_STATES,
    OF_NO_TRAINING,
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    own_fields,
)
from longtail.streaming.intervals import wilson_interval
from longtail.streaming.on_streams import not_on_streams
from longtail.streaming.tables.schemas import LATEST_WINDOWS, RUNNING, TABLES

_CLASS_SCORES = "use class_scores, which computes each row from one event; the table class_epochs has the history"
_AGGREGATE = "group the rows of class_scores yourself, by run and epoch or by time; the table epochs has the rest"
_NO_WINDOWS = "use events_of, and Spark's dropDuplicatesWithinWatermark; the live table has the latest rows"


def latest(events: DataFrame, key: Sequence[str]) -> DataFrame:
    """One row per key: of the highest attempt the one emitted last."""
    order = [name for name in ("attempt", "emitted_at") if name in events.columns]
    rest = [name for name in events.columns if name not in key and name not in order]
    # The whole row takes part in the order, so that the choice between two otherwise equal rows is deterministic.
    newest = F.max(F.struct(*order, *rest)).alias("newest")
    return events.groupBy(*key).agg(newest).select(*key, "newest.*").select(*events.columns)


def events_of(events: DataFrame, kind: type[Event]) -> DataFrame:
    """The events of a kind, with the fields of that kind only."""
    return events.where(F.col("kind") == kind.kind).select(*own_fields(kind))


@not_on_streams(_NO_WINDOWS)
def latest_class_events(class_events: DataFrame) -> DataFrame:
    """One row per run, split, epoch and class, unless a higher attempt has measured its epoch or an earlier one."""
    return latest(_not_begun_again(class_events.select(*own_fields(ClassEvent))), ["run", "split", "epoch", "class_id"])


def _not_begun_again(events: DataFrame) -> DataFrame:
    """The events of a run whose epoch, and all before it, no higher attempt has events of."""
    up_to_epoch = Window.partitionBy("run").orderBy("epoch").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    highest = F.max("attempt").over(up_to_epoch)
    return events.withColumn("highest", highest).where(F.col("attempt") == F.col("highest")).drop("highest")


def _at_highest(events: DataFrame, value: Sequence[str], *, by: Sequence[str]) -> DataFrame:
    """The rows whose values are the highest ones of all rows with the same `by`."""
    highest = F.max(F.struct(*value)).over(Window.partitionBy(*by))
    return events.withColumn("highest", highest).where(F.struct(*value) == F.col("highest")).drop("highest")


def class_scores(class_events: DataFrame) -> DataFrame:
    """Add accuracy and its 95 % interval, precision, f1, mean_confidence and calibration_gap.

    Each row is computed from one event, so that this runs on a stream without state.
    """
    low, high = wilson_interval(F.col("accuracy"), F.nullif(F.col("support"), F.lit(0)), sqrt=F.sqrt)
    return (
        class_events.withColumn("accuracy", F.try_divide("correct", "support"))
        .withColumn("accuracy_low", low)
        .withColumn("accuracy_high", high)
        .withColumn("precision", F.try_divide("correct", "predicted"))
        .withColumn("f1", F.try_divide(2 * F.col("correct"), F.col("support") + F.col("predicted")))
        .withColumn("mean_confidence", F.try_divide("confidence_sum", "support"))
        .withColumn("calibration_gap", F.col("mean_confidence") - F.col("accuracy"))
    )


@not_on_streams(_CLASS_SCORES)
def class_epochs(class_events: DataFrame, before: DataFrame | None = None) -> DataFrame:
    """One row per run, split, epoch and class.

    class_events: latest_class_events
    before: rows of this table for epochs before those of the events; used as history and not part of the result

    accuracy, precision, f1: null where the denominator is zero
    accuracy_low, accuracy_high: bounds of the 95 % interval of the accuracy (streaming/intervals.py): a tail class may
        have five images, and an accuracy of 4 / 5 then stands for 0.38 to 0.96
    accuracy_change: accuracy minus that of the class's previous epoch, null in the first
    best_accuracy: highest accuracy so far
    true_share, predicted_share: share of the split's images that are of the class, and that are predicted as the class
    mean_confidence, calibration_gap: of the class's images; the gap is mean confidence minus accuracy: overconfident
        above 0
    """
    by_epoch = Window.partitionBy("run", "split", "epoch")
    scored = (
        class_scores(class_events)
        .withColumn("true_share", F.try_divide("support", F.sum("support").over(by_epoch)))
        .withColumn("predicted_share", F.try_divide("predicted", F.sum("predicted").over(by_epoch)))
    )
    return _with_history(
        scored, before, key=["run", "split", "class_id"], value="accuracy", best="best_accuracy",
        change="accuracy_change",
    ).select(*TABLES["class_epochs"].names)  # fmt: skip


@not_on_streams(_AGGREGATE)
def epochs(classes: DataFrame, before: DataFrame | None = None) -> DataFrame:
    """One row per run, split and epoch.

    classes: class_epochs
    before: rows of this table for epochs before those of the classes; used as history and not part of the result

    accuracy: over images
    balanced_accuracy and many/medium/few_shot_accuracy: mean of class accuracies, null for a group without classes
    head_tail_gap: many-shot minus few-shot accuracy
    label_bias: Kullback-Leibler divergence (nats) of the predicted from the true class shares, infinite if a class
        without images is predicted; null without images or without predictions
    calibration_gap: mean confidence minus accuracy, over images
    loss: mean over images
    learning_rate, positive_rank, num_candidates: as the events say (streaming/events/schema.py)
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
            F.when((F.sum("support") > 0) & (F.sum("predicted") > 0), F.sum(divergence)).alias("label_bias"),
            F.try_divide(F.sum("confidence_sum") - F.sum("correct"), F.sum("support")).alias("calibration_gap"),
            F.try_divide(F.sum("loss_sum"), F.sum("support")).alias("loss"),
            F.max("epoch_seconds").alias("epoch_seconds"),
            F.max("images_per_second").alias("images_per_second"),
            F.max("emitted_at").alias("emitted_at"),
            *(F.max(name).alias(name) for name in ("learning_rate", "positive_rank", "num_candidates")),
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
    """Add to each row the best value up to its epoch, and the change of the value since the previous row of its key."""
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


@not_on_streams(_NO_WINDOWS)
def confusion(reports: DataFrame) -> DataFrame:
    """The nonzero cells of the confusion matrix of each run and split at the latest epoch of its highest attempt.

    reports: confusion events, and rows of this table
    """
    of_newest = _at_highest(reports.select(*TABLES["confusion"].names), ["attempt", "epoch"], by=["run", "split"])
    return latest(of_newest, ["run", "split", "epoch", "true_class", "predicted_class"])


@not_on_streams(_NO_WINDOWS)
def steps(reports: DataFrame) -> DataFrame:
    """Progress inside the epochs, without those that a higher attempt has begun again, and the ones after them.

    reports: step events, and rows of this table
    """
    return latest(_not_begun_again(reports.select(*TABLES["steps"].names)), ["run", "epoch", "step"])


@not_on_streams(_NO_WINDOWS)
def pseudo_labels(reports: DataFrame) -> DataFrame:
    """One row per run that labelled, round and class. Repeating a labelling replaces all rows of the round.

    reports: pseudo-label events, and rows of this table; the events of one labelling have the same emitted_at
    """
    of_labels = reports.select(*TABLES["pseudo_labels"].names)
    return latest(_at_highest(of_labels, ["attempt", "emitted_at"], by=["run", "round"]), ["run", "round", "class_id"])


@not_on_streams(_NO_WINDOWS)
def predictions(reports: DataFrame) -> DataFrame:
    """One row per run, stream, window and class, of the LATEST_WINDOWS windows of each stream. Writing a window again
    replaces all its rows.

    reports: prediction events, and rows of this table; the events of one window have the same emitted_at
    """
    of_window = ["run", "stream", "window_start"]
    of_predictions = reports.select(*TABLES["predictions"].names)
    rows = latest(_at_highest(of_predictions, ["attempt", "emitted_at"], by=of_window), [*of_window, "class_id"])
    from_last = F.dense_rank().over(Window.partitionBy("run", "stream").orderBy(F.desc("window_start")))
    return rows.withColumn("from_last", from_last).where(F.col("from_last") <= LATEST_WINDOWS).drop("from_last")


EVENT_QUERIES: dict[str, tuple[type[Event], Callable[[DataFrame], DataFrame]]] = {
    "confusion": (ConfusionEvent, confusion),
    "steps": (StepEvent, steps),
    "pseudo_labels": (PseudoLabelEvent, pseudo_labels),
    "predictions": (PredictionEvent, predictions),
}
"""Tables whose rows are the events of one kind: the kind, and the query that deduplicates them."""


def run_updates(events: DataFrame) -> DataFrame:
    """Each event of a training as a row of `runs` with all it contributes; `runs` combines such rows."""
    is_run, is_training = F.col("kind") == RunEvent.kind, ~F.col("kind").isin(*OF_NO_TRAINING)
    status = F.when(F.col("state").isin(*END_STATES), F.col("state")).otherwise(RUNNING)
    return events.where(is_training).select(
        "run",
        "attempt",
        "phase",
        F.when(is_run, status).alias("status"),
        F.col("emitted_at").alias("started_at"),
        F.col("emitted_at").alias("updated_at"),
        # The epoch of a step is not finished.
        F.when(F.col("kind") != StepEvent.kind, F.col("epoch")).alias("epoch"),
        "num_epochs",
        F.when(is_run, F.col("configuration")).alias("configuration"),
        F.when(is_run, F.col("message")).alias("message"),
        F.when(is_run, F.col("emitted_at")).alias("status_at"),
    )


def runs(updates: DataFrame) -> DataFrame:
    """One row per run: the state of its latest attempt.

    updates: run_updates of events, and rows of this table for earlier events

    status: finished, interrupted or failed once the attempt has reported that, whatever the clocks say, and if it has
        reported several the first of these; else running. Whether a running run is lost depends on the time of looking:
        readers decide it (streaming/tables/liveness.py)
    started_at, updated_at: of all attempts
    phase, epoch, num_epochs: of the latest attempt
    """
    # 0 for running.
    weight = F.array_position(F.array(*map(F.lit, END_STATES)), F.col("status")).alias("weight")
    last = F.struct("attempt", weight, "status_at", "status", "configuration", "message")

    def of_latest_attempt(name: str) -> Column:
        """The largest value that the latest attempt has reported."""
        return F.max(F.struct("attempt", name))[name].alias(name)

    combined = updates.groupBy("run").agg(
        F.max("attempt").alias("attempt"),
        of_latest_attempt("phase"),
        F.max(F.when(F.col("status").isNotNull(), last)).alias("last"),
        F.min("started_at").alias("started_at"),
        F.max("updated_at").alias("updated_at"),
        of_latest_attempt("epoch"),
        of_latest_attempt("num_epochs"),
    )
    # The status of an earlier attempt is void once a later attempt has sent an event.
    is_valid = F.col("last.attempt") == F.col("attempt")
    return combined.select(
        "run",
        "attempt",
        "phase",
        F.when(is_valid, F.col("last.status")).otherwise(RUNNING).alias("status"),
        "started_at",
        "updated_at",
        "epoch",
        "num_epochs",
        F.col("last.configuration").alias("configuration"),
        F.when(is_valid, F.col("last.message")).otherwise("").alias("message"),
        F.when(is_valid, F.col("last.status_at")).otherwise(F.lit(None)).alias("status_at"),
    )
