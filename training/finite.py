"""Refuses NaN and infinite numbers in weights and scores: none is saved, reported as a result, or loaded."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.training.metrics import Totals


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor with a NaN or infinite number; None if there is none. Waits once for the device."""
    if not tensors:
        return None
    flags = torch.stack([tensor.isfinite().all().cpu() for tensor in tensors.values()]).tolist()
    return next((name for name, is_finite in zip(tensors, flags, strict=True) if not is_finite), None)


def momenta(optimizer_state: object) -> dict[str, Tensor]:
    """The tensors in an optimizer's state_dict, by a name for messages; none if it is no such dict."""
    state = optimizer_state.get("state") if isinstance(optimizer_state, dict) else None
    if not isinstance(state, dict):
        return {}
    return {
        f"the optimizer's {name} of parameter {number}": value
        for number, values in state.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def check_weights(model: nn.Module, optimizer: torch.optim.Optimizer | None, *, when: str, remedy: str) -> None:
    """Raise UserError, naming the tensor, if a weight, a buffer or a momentum is NaN or infinite."""
    tensors = model.state_dict() | (momenta(optimizer.state_dict()) if optimizer else {})
    if (name := first_not_finite(tensors)) is not None:
        raise UserError(f"the weights became NaN or infinite {when} ({name}): {remedy}")


def check_totals(totals: Mapping[str, Totals], *, when: str, remedy: str) -> None:
    """Raise UserError, naming split and value, if the loss or the confidence on a split is NaN or infinite."""
    for split, sums in totals.items():
        for name, values in (("loss", sums["loss_sum"]), ("confidence", sums["confidence_sum"])):
            if not math.isfinite(total := _sum(values)):
                raise UserError(f"the {name} on the {split} images became {total} {when}: {remedy}")


def _sum(values: Iterable[float]) -> float:
    return sum(values)
