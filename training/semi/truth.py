"""How right the pseudo-labels of a step are, where the classes of the unlabeled images are known.

Nothing is learned from it: it is counted, and told in the metric events.
"""

import numpy as np
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import NO_CLASS
from longtail.data.loader import load_hidden_labels
from longtail.data.storage import Place
from longtail.training.metrics import ClassTotals


def known_truth(set_dir: Place, ids: np.ndarray) -> Tensor | None:
    """(U,) int64 classes of the unlabeled images ids (U,), NO_CLASS for those of none; None if nobody knows any."""
    try:
        known, labels = load_hidden_labels(set_dir)
    except UserError:
        return None  # a set of another origin may lack the column
    order = np.argsort(known)
    truth = labels[order][np.searchsorted(known, ids, sorter=order)]
    return torch.from_numpy(truth) if (truth != NO_CLASS).any() else None


def count_pseudo_labels(
    totals: ClassTotals, truth: Tensor, pseudo_labels: Tensor, is_sure: Tensor, confidence: Tensor, losses: Tensor
) -> None:
    """Count unlabeled images (m,) of a batch: a class is predicted for those that are sure, and only for them.

    So correct/predicted is the precision of a class's pseudo-labels, and correct/support their recall. An image of no
    class is in no support, but the class that it is surely taken for has predicted it.

    losses: (m,) unweighted, 0 where a pseudo-label is not sure
    """
    belongs = (truth != NO_CLASS).double()
    classes = truth.clamp(min=0)
    support, correct, predicted, loss_sum, confidence_sum = totals.values
    support.index_add_(0, classes, belongs)
    correct.index_add_(0, classes, ((pseudo_labels == truth) & is_sure).double())
    predicted.index_add_(0, pseudo_labels, is_sure.double())
    loss_sum.index_add_(0, classes, losses.double() * belongs)
    confidence_sum.index_add_(0, classes, confidence.double() * belongs)
