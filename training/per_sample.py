"""Records of tensors with one row per sample of an epoch, selected together."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor


class PerSample:
    """Base of dataclasses whose fields are tensors (N, ...), PerSample records of N rows, or tuples of these."""

    def part(self, selection: slice | Tensor) -> Self:
        """Select the rows of some samples: a slice, or their positions (n,) int64."""
        return self._each(lambda rows: rows.part(selection) if isinstance(rows, PerSample) else rows[selection])

    def to(self, device: torch.device) -> Self:
        """Move all tensors to the device."""
        return self._each(lambda rows: rows.to(device))

    def copied(self) -> Self:
        """The same rows in memory of their own."""
        return self._each(lambda rows: rows.copied() if isinstance(rows, PerSample) else rows.clone())

    def overwrite(self, other: Self) -> None:
        """Copy the rows of another record of the same shapes into this one's memory."""
        for name, rows in vars(self).items():
            found = getattr(other, name)
            pairs = zip(rows, found, strict=True) if isinstance(rows, tuple) else [(rows, found)]
            for own, new in pairs:
                if isinstance(own, PerSample):
                    own.overwrite(new)
                else:
                    own.copy_(new)

    def _each(self, change: Callable[[Any], Any]) -> Self:
        changed = {
            name: tuple(map(change, rows)) if isinstance(rows, tuple) else change(rows)
            for name, rows in vars(self).items()
        }
        return type(self)(**changed)
