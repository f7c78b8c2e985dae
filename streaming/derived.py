"""Result tables that are derived from other result tables of the same run: DataFrame -> DataFrame.

The live query recomputes a derived table of a run whenever one of its sources changes. Adding one takes two files: its
columns go to TABLES (streaming/tables/schemas.py), its query and sources to DERIVED_TABLES below.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array

from longtail.conf.vocabulary import VAL
from longtail.streaming.class_shares import estimate_class_shares
from longtail.streaming.on_streams import not_on_streams
from longtail.streaming.tables.schemas import TABLES

_SQL_TYPES = {pa.string(): "string", pa.int64(): "bigint", pa.float64(): "double"}


@dataclass(frozen=True)
class DerivedTable:
    """How a result table is derived from others.

    query: takes one DataFrame per source, in this order, with the rows of any number of runs
    sources: names of tables; a run without rows in the first one has none in the derived table either. From tables
        that grow with the epochs the query gets at least the latest epoch of each run and split
    """

    query: Callable[..., DataFrame]
    sources: tuple[str, ...]


@not_on_streams("the live table unlabeled_estimates has its rows")
def unlabeled_estimates(labels: DataFrame, cells: DataFrame, classes: DataFrame) -> DataFrame:
    """Estimates for the unlabeled images from pseudo-labels alone: one row per run that labelled and round.

    A classifier trained on a long tail predicts head classes for tail images, so the class counts of its pseudo-labels
    are more imbalanced than the unlabeled images. Its mistakes are known from a held-out split; undoing them estimates
    the true class shares, hence rho_U. This assumes that unlabeled images of a class resemble its held-out images;
    where they do not, confidence is lower than expected.

    labels: pseudo_labels; cells: confusion; classes: class_epochs. Columns that need held-out images are null for a run
    without validation split: whether to use unlabeled images is a choice, which test labels must not influence.

    rho, rho_pseudo_labels: largest over smallest class count of the labels, and of the pseudo-labels (infinite if a
        class got none)
    rho_unlabeled: estimate for the unlabeled images; each class counts for at least one image
    mean_confidence: of the pseudo-labels
    expected_confidence: mean confidence if the unlabeled images were like held-out images in the estimated shares; both
        are of the latest epoch with held-out images, as the cells are
    histogram_divergence: Kullback-Leibler divergence (nats) of the pseudo-labels' class shares from those of the labels
    """
    class_row = F.struct("class_id", "labelled_count", "pseudo_label_count", "mean_confidence")
    labelled = labels.groupBy("run", "round").agg(F.sort_array(F.collect_list(class_row)).alias("labels"))
    held_out = (
        cells.where(F.col("split") == VAL)
        .groupBy("run")
        .agg(F.collect_list(F.struct("true_class", "predicted_class", "count")).alias("cells"))
    )
    confidences = (
        classes.where(F.col("split") == VAL)
        .groupBy("run", "epoch")
        .agg(F.collect_list(F.struct("class_id", F.col("mean_confidence").alias("confidence"))).alias("of_epoch"))
        .groupBy("run")
        .agg(F.max_by("of_epoch", "epoch").alias("confidences"))
    )
    joined = labelled.join(held_out.join(confidences, "run", "left"), "run", "left")
    ddl = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in TABLES["unlabeled_estimates"])
    return joined.mapInArrow(_estimate_batches, ddl)


DERIVED_TABLES: dict[str, DerivedTable] = {
    "unlabeled_estimates": DerivedTable(unlabeled_estimates, sources=("pseudo_labels", "confusion", "class_epochs")),
}


def _estimate_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = [_estimate(**row) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=TABLES["unlabeled_estimates"])


def _estimate(
    run: str, round: int, labels: list[dict], cells: list[dict] | None, confidences: list[dict] | None
) -> dict[str, Any]:
    """One row of unlabeled_estimates."""
    num_classes = 1 + max(row["class_id"] for row in labels)
    labelled, pseudo, confidence = (np.zeros(num_classes) for _ in range(3))
    for row in labels:
        labelled[row["class_id"]], pseudo[row["class_id"]] = row["labelled_count"], row["pseudo_label_count"]
        confidence[row["class_id"]] = row["mean_confidence"] or 0.0
    estimate = {
        "run": run,
        "round": round,
        "num_pseudo_labels": int(pseudo.sum()),
        "rho": _imbalance_ratio(labelled),
        "rho_pseudo_labels": _imbalance_ratio(pseudo),
        "rho_unlabeled": None,
        "mean_confidence": float(pseudo @ confidence / pseudo.sum()) if pseudo.sum() else None,
        "expected_confidence": None,
        "histogram_divergence": _divergence(pseudo, labelled),
    }
    if cells and pseudo.sum():
        shares = estimate_class_shares(pseudo, _confusion_matrix(cells, num_classes))
        # A class counts for at least one image.
        estimate["rho_unlabeled"] = float(shares.max() / max(shares.min(), 1 / pseudo.sum()))
        held_out = {row["class_id"]: row["confidence"] for row in confidences or () if row["confidence"] is not None}
        covered = [c for c in range(num_classes) if c in held_out]
        if covered and shares[covered].sum() > 0:
            held_out_confidence = np.array([held_out[c] for c in covered])
            estimate["expected_confidence"] = float(shares[covered] @ held_out_confidence / shares[covered].sum())
    return estimate


def _confusion_matrix(cells: list[dict], num_classes: int) -> csr_array:
    """(C, C) counts of [true, predicted]."""
    columns = [[cell[name] for cell in cells] for name in ("count", "true_class", "predicted_class")]
    kept = [i for i in range(len(cells)) if max(columns[1][i], columns[2][i]) < num_classes]
    counts, true, predicted = (np.array(column)[kept] for column in columns)
    return csr_array((counts.astype(float), (true, predicted)), shape=(num_classes, num_classes))


def _imbalance_ratio(counts: np.ndarray) -> float | None:
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
