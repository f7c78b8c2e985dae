"""The latest pseudo-label of each unlabeled image in an epoch of FixMatch, so that the images can be shown."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_CONFIDENCE_BITS, _CLASS_BITS, _STEP_BITS = 20, 20, 22
_CONFIDENCE_UNITS = 2**_CONFIDENCE_BITS - 1


@dataclass(frozen=True)
class ImagePseudoLabels:
    """The pseudo-labels of the U unlabeled images, as one number each, of which the largest is the latest.

    values: (U,) int64: step of the epoch, confident or not, confidence in units of 2^-20, and class; 0 for an image
        that was not in any step. Ranks combine theirs by the maximum.
    """

    values: Tensor

    @classmethod
    def zeros(cls, num_images: int, device: torch.device) -> "ImagePseudoLabels":
        """No pseudo-labels yet."""
        return cls(torch.zeros(num_images, dtype=torch.int64, device=device))

    def add(
        self, indices: Tensor, pseudo_labels: Tensor, confidence: Tensor, is_confident: Tensor, *, step: int
    ) -> None:
        """Add the pseudo-labels of a step, without a device synchronisation.

        indices: (m,) into the unlabeled part, with pseudo_labels, confidence and is_confident, (m,) each
        """
        units = (confidence.double() * _CONFIDENCE_UNITS).round().long()
        # From 1 on, so that no value is 0.
        packed = torch.full_like(indices, 1 + step % (2**_STEP_BITS - 1))
        packed = (packed << 1) + is_confident.long()
        packed = (packed << _CONFIDENCE_BITS) + units
        packed = (packed << _CLASS_BITS) + pseudo_labels
        self.values.scatter_reduce_(0, indices, packed, "amax")

    def confident(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices, classes and confidences, (m,) each, of the images whose latest pseudo-label was confident."""
        values = self.values.cpu().numpy()
        indices = np.flatnonzero((values >> (_CLASS_BITS + _CONFIDENCE_BITS)) & 1)
        found = values[indices]
        units = (found >> _CLASS_BITS) & _CONFIDENCE_UNITS
        return indices, found & (2**_CLASS_BITS - 1), (units / _CONFIDENCE_UNITS).astype(np.float32)
