"""Outputs of the base classifier, as the estimates need them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ClassifierOutput:
    """Outputs for N images.

    predicted: (N,) classes
    features: (N, D)
    head_log_odds: (N,) log odds of the head half of the classes against the tail half
    """

    predicted: np.ndarray
    features: np.ndarray
    head_log_odds: np.ndarray


@dataclass(frozen=True, kw_only=True)
class HeldOutOutput(ClassifierOutput):
    """Outputs for N labelled images that the classifier was not trained on.

    labels: (N,) classes
    """

    labels: np.ndarray
