"""What pseudo-labels say of the unlabeled part without its labels: DataFrame -> DataFrame.

A classifier that learned a long tail takes tail images for head ones, so the
histogram of its pseudo-labels is more imbalanced than the unlabeled part is. How
it errs is known from a held-out split; undoing that gives an estimate of the true
shares, hence of rho_U. The estimate holds if the unlabeled images of a class look
like its held-out ones; where they don't, confidence falls, which is told as well.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array

from longtail.streaming.queries import latest
from longtail.streaming.tables.store import TABLES
from longtail.streaming.unfolding import unfolded_shares

_TYPES = {pa.string(): "string", pa.int64(): "bigint", pa.float64(): "double"}


def pseudo_labels(reports: DataFrame) -> DataFrame:
    """A row per run that labelled, round and class: how many, how sure. A labelling again replaces the one before.

    reports: pseudo-label events, and rows of this table
    """
    return latest(reports.select(*TABLES["pseudo_labels"].names), ["run", "round", "class_id"])


def pseudo_label_drift(labels: DataFrame) -> DataFrame:
    """What changed from the labelling that a classifier was trained on to the one it made itself; a row per class.

    labels: pseudo_labels; null in the columns of change where the class had no pseudo-labels
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


def unlabeled(labels: DataFrame, cells: DataFrame, classes: DataFrame) -> DataFrame:
    """A row per run that labelled and round.

    labels: pseudo_labels; cells: confusion; classes: class_epochs. Of the held-out splits validation goes first. What
    needs one is null for a run without any.

    rho, rho_pseudo_labels: largest over smallest class by labels, and by pseudo-labels (infinite if a class got none)
    rho_unlabeled: the estimate of the unlabeled part's own; a class counts for at least one image in it
    mean_confidence: of the pseudo-labels
    expected_confidence: what it would be if the unlabeled images were like held-out ones in the estimated shares
    histogram_divergence: Kullback-Leibler divergence (nats) of the pseudo-labels' from the labels' class shares
    """
    of_class = F.struct("class_id", "labelled_count", "pseudo_label_count", "mean_confidence")
    labelled = labels.groupBy("run", "round").agg(F.sort_array(F.collect_list(of_class)).alias("labels"))
    split = cells.groupBy("run").agg(F.max("split").alias("split"))  # "val" lies behind "test"
    held_out = (
        cells.join(split, ["run", "split"])
        .groupBy("run", "split")
        .agg(F.collect_list(F.struct("true_class", "predicted_class", "count")).alias("cells"))
    )
    last = F.max(F.struct("epoch", "mean_confidence")).getField("mean_confidence").alias("confidence")
    confidences = (
        classes.groupBy("run", "split", "class_id")
        .agg(last)
        .groupBy("run", "split")
        .agg(F.collect_list(F.struct("class_id", "confidence")).alias("confidences"))
    )
    joined = labelled.join(held_out.join(confidences, ["run", "split"], "left"), "run", "left").drop("split")
    ddl = ", ".join(f"{field.name} {_TYPES[field.type]}" for field in TABLES["unlabeled"])
    return joined.mapInArrow(_summaries, ddl)


def _summaries(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = [_summary(**row) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=TABLES["unlabeled"])


def _summary(
    run: str, round: int, labels: list[dict], cells: list[dict] | None, confidences: list[dict] | None
) -> dict:
    num_classes = 1 + max(row["class_id"] for row in labels)
    labelled, pseudo, sure = (np.zeros(num_classes) for _ in range(3))
    for row in labels:
        labelled[row["class_id"]], pseudo[row["class_id"]] = row["labelled_count"], row["pseudo_label_count"]
        sure[row["class_id"]] = row["mean_confidence"] or 0.0
    found = {
        "run": run,
        "round": round,
        "num_pseudo_labels": int(pseudo.sum()),
        "rho": _ratio(labelled),
        "rho_pseudo_labels": _ratio(pseudo),
        "rho_unlabeled": None,
        "mean_confidence": float(pseudo @ sure / pseudo.sum()) if pseudo.sum() else None,
        "expected_confidence": None,
        "histogram_divergence": _divergence(pseudo, labelled),
    }
    if cells and pseudo.sum():
        shares = unfolded_shares(pseudo, _confusion_matrix(cells, num_classes))
        found["rho_unlabeled"] = largest_over_smallest(shares, pseudo.sum())
        held_out = {row["class_id"]: row["confidence"] for row in confidences or () if row["confidence"] is not None}
        covered = [c for c in range(num_classes) if c in held_out]
        if covered and shares[covered].sum() > 0:
            confidence = np.array([held_out[c] for c in covered])
            found["expected_confidence"] = float(shares[covered] @ confidence / shares[covered].sum())
    return found


def _confusion_matrix(cells: list[dict], num_classes: int) -> csr_array:
    """(C, C): counts of [true, predicted]."""
    columns = [[cell[name] for cell in cells] for name in ("count", "true_class", "predicted_class")]
    kept = [i for i in range(len(cells)) if max(columns[1][i], columns[2][i]) < num_classes]
    counts, true, predicted = (np.array(column)[kept] for column in columns)
    return csr_array((counts.astype(float), (true, predicted)), shape=(num_classes, num_classes))


def largest_over_smallest(shares: np.ndarray, num_images: float) -> float:
    """rho by estimated class shares (C,); a class counts for at least one of the images."""
    return float(shares.max() / max(shares.min(), 1 / num_images))


def _ratio(counts: np.ndarray) -> float | None:
    if not counts.max(initial=0):
        return None
    return float(counts.max() / counts.min()) if counts.min() else float("inf")


def _divergence(pseudo: np.ndarray, labelled: np.ndarray) -> float | None:
    if not pseudo.sum() or not labelled.sum():
        return None
    p, q = pseudo / pseudo.sum(), labelled / labelled.sum()
    if (q[p > 0] == 0).any():
        return float("inf")
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
