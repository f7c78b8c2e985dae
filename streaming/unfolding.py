"""The class shares behind what a classifier says, by undoing its mistakes; numpy alone, so that training has it too."""

import numpy as np
from scipy.sparse import csr_array

UNFOLDING_STEPS = 1000


def unfolded_shares(predicted: np.ndarray, confusion: csr_array) -> np.ndarray:
    """(C,) class shares that explain the predicted counts (C,) best, given how a held-out split (C, C) is mistaken.

    Expectation-maximisation of the multinomial likelihood (Saerens et al. 2002, on hard predictions). A class that
    the held-out split lacks is taken to be predicted right.
    """
    support = np.asarray(confusion.sum(axis=1)).ravel()
    counts = confusion + csr_array((np.where(support == 0, 1.0, 0.0), (range(len(support)), range(len(support)))))
    given_true = csr_array(counts / np.maximum(support, 1)[:, None])  # rows: P(predicted | true)
    told = predicted / predicted.sum()
    shares = np.full(len(told), 1 / len(told))
    for _ in range(UNFOLDING_STEPS):
        explained = shares @ given_true
        ratio = np.divide(told, explained, out=np.zeros_like(told), where=explained > 0)
        shares = shares * (given_true @ ratio)
        shares = shares / shares.sum()
    return shares
