"""Result tables that are derived from other result tables of the same run, by Arrow and numpy. No Spark.

The live query recomputes a derived table of a run whenever one of its sources changes. Adding one takes two files: its
columns go to TABLES (streaming/tables/schemas.py), its query and sources to DERIVED_TABLES below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from longtail.conf.vocabulary import VAL
from longtail.streaming.class_shares import estimate_class_shares
from longtail.streaming.tables.schemas import TABLES


@dataclass(frozen=True)
class DerivedTable:
    """How a result table is derived from others.

    query: takes one table per source, in this order, with the rows of one run; returns the derived table's rows
    sources: names of tables; a run without rows in the first one has none in the derived table either. From tables
        that grow with the epochs the query gets at least the latest epoch of each split
    """

    query: Callable[..., pa.Table]
    sources: tuple[str, ...]


def unlabeled_estimates(labels: pa.Table, cells: pa.Table, classes: pa.Table) -> pa.Table:
    """Estimates for the unlabeled images from pseudo-labels alone: one row per round.

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
    cells = cells.filter(pc.equal(cells["split"], VAL))
    classes = classes.filter(pc.equal(classes["split"], VAL))
    classes = classes.filter(pc.equal(classes["epoch"], pc.max(classes["epoch"])))
    rows = []
    for round_ in sorted(labels["round"].unique().to_pylist()):
        of_round = labels.filter(pc.equal(labels["round"], round_))
        rows.append({"run": of_round["run"][0].as_py(), "round": round_, **_estimate(of_round, cells, classes)})
    return pa.Table.from_pylist(rows, schema=TABLES["unlabeled_estimates"])


DERIVED_TABLES: dict[str, DerivedTable] = {
    "unlabeled_estimates": DerivedTable(unlabeled_estimates, sources=("pseudo_labels", "confusion", "class_epochs")),
}


def _estimate(labels: pa.Table, cells: pa.Table, classes: pa.Table) -> dict[str, Any]:
    """A row of unlabeled_estimates. labels: of one round; cells, classes: of held-out images, at the latest epoch"""
    num_classes = 1 + pc.max(labels["class_id"]).as_py()
    labelled, pseudo, confidence = (np.zeros(num_classes) for _ in range(3))
    of_labels = labels["class_id"].to_numpy()
    labelled[of_labels], pseudo[of_labels] = labels["labelled_count"], labels["pseudo_label_count"]
    confidence[of_labels] = pc.fill_null(labels["mean_confidence"], 0.0)
    estimate = {
        "num_pseudo_labels": int(pseudo.sum()),
        "rho": _imbalance_ratio(labelled),
        "rho_pseudo_labels": _imbalance_ratio(pseudo),
        "rho_unlabeled": None,
        "mean_confidence": float(pseudo @ confidence / pseudo.sum()) if pseudo.sum() else None,
        "expected_confidence": None,
        "histogram_divergence": _divergence(pseudo, labelled),
    }
    has_both = cells.num_rows and pseudo.sum()
    shares = estimate_class_shares(pseudo, _confusion_matrix(cells, num_classes)) if has_both else None
    if shares is not None:
        # A class counts for at least one image.
        estimate["rho_unlabeled"] = float(shares.max() / max(shares.min(), 1 / pseudo.sum()))
        held_out = classes.filter(
            pc.and_(pc.is_valid(classes["mean_confidence"]), pc.less(classes["class_id"], num_classes))
        )
        of_covered = shares[held_out["class_id"].to_numpy()]
        if of_covered.sum() > 0:
            held_out_confidence = held_out["mean_confidence"].to_numpy()
            estimate["expected_confidence"] = float(of_covered @ held_out_confidence / of_covered.sum())
    return estimate


def _confusion_matrix(cells: pa.Table, num_classes: int) -> csr_array:
    """(C, C) counts of [true, predicted]."""
    true, predicted, counts = (cells[name].to_numpy() for name in ("true_class", "predicted_class", "count"))
    kept = np.maximum(true, predicted) < num_classes
    return csr_array((counts[kept].astype(float), (true[kept], predicted[kept])), shape=(num_classes, num_classes))


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
