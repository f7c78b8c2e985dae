"""What a CUDA graph does, on the CPU: the tensor operations of a piece of work, done again at the same addresses.

Python does not run in a replay. So whatever a step takes from Python, such as a slice that moves on, stays as it was
when the step was recorded, and a training that depends on it ends elsewhere.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS_BACK = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
"""Operations with which a GPU's stream cannot be recorded: the host waits for their results."""


class WorkRecorder:
    """Records operations in the place of training.step_graphs.CudaRecorder; num_replays counts those of all records."""

    def __init__(self) -> None:
        self.num_replays = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        # Recording a graph does not run it, recording here does: what it changes is put back.
        recording = _Recording()
        try:
            with recording:
                work()
        finally:
            recording.undo()

        def replay() -> None:
            self.num_replays += 1
            recording.replay()

        return replay


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = []
        self.made: set[int] = set()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READS_BACK:
            raise RuntimeError(f"{func} in a step that is being recorded")
        for tensor in _tensors((args, kwargs)):
            if (address := tensor.untyped_storage().data_ptr()) not in self.made | self.before.keys():
                self.before[address] = (tensor, tensor.detach().clone())
        results = func(*args, **(kwargs or {}))
        self.made |= {it.untyped_storage().data_ptr() for it in _tensors(results)} - self.before.keys()
        self.done.append((func, args, kwargs or {}, _tensors(results)))
        return results

    @torch.inference_mode()
    def undo(self) -> None:
        for tensor, content in self.before.values():
            tensor.detach().copy_(content)

    @torch.inference_mode()
    def replay(self) -> None:
        for func, args, kwargs, results in self.done:
            for recorded, again in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if recorded.data_ptr() != again.data_ptr():
                    recorded.copy_(again)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
