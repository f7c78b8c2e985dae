"""Accuracy of the pseudo-labels of a step, if the classes of the unlabeled images are known.

Nothing is learned from them: correct pseudo-labels are counted for the metric events.
"""

import numpy as np
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import NO_CLASS
from longtail.data.loader import load_hidden_labels
from longtail.training.metrics import ClassTotals


def load_truth(set_dir: Location, ids: np.ndarray) -> Tensor | None:
    """(U,) int64 true classes of the unlabeled images with ids (U,), NO_CLASS for none; None if no class is known."""
    try:
        known, labels = load_hidden_labels(set_dir)
    except UserError:
        return None  # a set of another origin may lack the column
    order = np.argsort(known)
    truth = labels[order][np.searchsorted(known, ids, sorter=order)]
    return torch.from_numpy(truth) if (truth != NO_CLASS).any() else None


def count_pseudo_labels(
    totals: ClassTotals, truth: Tensor, pseudo_labels: Tensor, is_confident: Tensor, confidence: Tensor, losses: Tensor
) -> None:
    """Add the unlabeled images (m,) of a batch to the totals; only confident pseudo-labels count as predictions.

    So correct/predicted is the precision of a class's pseudo-labels, and correct/support their recall. An image of no
    class adds to no support, but its confident pseudo-label counts as a prediction.

    losses: (m,) unweighted, 0 where a pseudo-label is not confident
    """
    belongs = (truth != NO_CLASS).double()
    classes = truth.clamp(min=0)
    support, correct, predicted, loss_sum, confidence_sum = totals.values
    support.index_add_(0, classes, belongs)
    correct.index_add_(0, classes, ((pseudo_labels == truth) & is_confident).double())
    predicted.index_add_(0, pseudo_labels, is_confident.double())
    loss_sum.index_add_(0, classes, losses.double() * belongs)
    confidence_sum.index_add_(0, classes, confidence.double() * belongs)
