"""Estimates the class shares behind a classifier's predictions by undoing its mistakes. No Spark, no torch."""

import numpy as np
from scipy.sparse import csr_array

NUM_STEPS = 1000


def estimate_class_shares(predicted: np.ndarray, confusion: csr_array) -> np.ndarray | None:
    """(C,) class shares that explain best how often each class is predicted; None if no shares explain any prediction.

    Expectation-maximisation of the multinomial likelihood (Saerens et al. 2002, on hard predictions). A class without
    held-out images is assumed to be predicted correctly.

    predicted: (C,) number of images predicted as each class
    confusion: (C, C) held-out images of class i that are predicted as class j
    """
    support = np.asarray(confusion.sum(axis=1)).ravel()
    counts = confusion + csr_array((np.where(support == 0, 1.0, 0.0), (range(len(support)), range(len(support)))))
    likelihood = csr_array(counts / np.maximum(support, 1)[:, None])  # (C, C): P(predicted j | true class i)
    observed = predicted / predicted.sum()
    shares = np.full(len(observed), 1 / len(observed))
    for _ in range(NUM_STEPS):
        expected = shares @ likelihood
        ratio = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
        shares = shares * (likelihood @ ratio)
        if not shares.sum():  # no held-out image was predicted as any of these classes
            return None
        shares = shares / shares.sum()
    return shares
