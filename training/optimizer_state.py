"""The optimizer's state of a checkpoint."""

from typing import Any

import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location

_MOMENTUM = "momentum_buffer"


def load_momentum(optimizer: torch.optim.Optimizer, state: dict[str, Any], *, path: Location) -> None:
    """Copy the momentum buffers of a saved SGD state into the optimizer, whose options stay as they are.

    state: what `optimizer.state_dict()` gave when the checkpoint was saved

    Raises UserError unless each buffer has the shape and type of its parameter: the optimizer's kernels do not check.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    buffers = _buffers(state, path)
    if len(buffers) != len(parameters):
        raise _misfit(path, f"it is of {len(buffers)} parameters, the network learns {len(parameters)}")
    if all(buffer is None for buffer in buffers):
        return
    for index, (parameter, buffer) in enumerate(zip(parameters, buffers, strict=True)):
        if buffer is None:
            # Of a parameter without gradients so far. The fused kernels need all momenta or none; the first step makes
            # of 0 what it makes of none.
            buffer = torch.zeros_like(parameter, requires_grad=False)
        if buffer.shape != parameter.shape or buffer.dtype != parameter.dtype:
            raise _misfit(
                path,
                f"for parameter {index} it is {buffer.dtype} {tuple(buffer.shape)}, needed {parameter.dtype} "
                f"{tuple(parameter.shape)}",
            )
        # A copy with the parameter's layout in memory, on its device.
        optimizer.state[parameter][_MOMENTUM] = torch.empty_like(parameter, requires_grad=False).copy_(buffer)


def _buffers(state: dict[str, Any], path: Location) -> list[Tensor | None]:
    """The momentum of each parameter, None if it has none. The state names parameters by numbers of its own."""
    match state:
        case {"state": dict() as entries, "param_groups": list() as groups} if all(isinstance(g, dict) for g in groups):
            keys = [key for group in groups for key in _as_list(group.get("params"))]
        case _:
            raise _misfit(path, "it is no state of SGD")
    if not all(type(key) is int for key in keys) or len(set(keys)) < len(keys) or not entries.keys() <= set(keys):
        raise _misfit(path, "its parameters are not numbered")
    buffers = []
    for key in keys:
        entry = entries.get(key, {})
        buffer = entry.get(_MOMENTUM) if isinstance(entry, dict) else entry
        if buffer is not None and not torch.is_tensor(buffer):
            raise _misfit(path, "the momentum of a parameter is no tensor")
        buffers.append(buffer)
    return buffers


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _misfit(path: Location, reason: str) -> UserError:
    return UserError(f"the optimizer's state in {path} does not fit: {reason}; give it as --pretrained_model")
