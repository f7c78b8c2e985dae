"""Refuses NaN and infinite numbers in weights and scores: none is saved, reported as a result, or loaded."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.training.metrics import Totals


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor with a NaN or infinite number; None if there is none."""
    # All are begun before the first is waited for, and a tensor of many names is looked at once.
    distinct = {id(tensor): tensor for tensor in tensors.values() if tensor.numel()}
    flags = {key: _is_finite(tensor) for key, tensor in distinct.items()}
    return next((name for name, tensor in tensors.items() if not flags.get(id(tensor), True)), None)


def _is_finite(tensor: Tensor) -> Tensor:
    """Whether all numbers are finite: a truth value on the tensor's device."""
    if not tensor.is_floating_point():
        return tensor.isfinite().all()
    # NaN is passed on. No tensor of truth values is made, and memory that cannot be reused because of small results.
    return torch.stack(torch.aminmax(tensor)).isfinite().all()


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
