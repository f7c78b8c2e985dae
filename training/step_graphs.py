"""Whole steps as CUDA graphs (--compile cuda_graphs).

A step of a small network starts hundreds of kernels that take a GPU less time than Python needs to start them.
Recorded once as a CUDA graph, a step is started by one call. Nothing in it may depend on Python any more: which samples
it takes is given by a counter on the device, their choices and the learning rates are read from tables there, and all
stay at their addresses from epoch to epoch. The sizes of an epoch's batches differ by at most one: two graphs.
Evaluation is recorded in the same way, once for full batches and once for the last one of each split.

The first steps of each size are taken without a graph: they are steps of the training like all others, in which the
optimizer and the libraries allocate what they keep.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.training.distributed import Rank
from longtail.training.epoch_plan import EpochPlan, EpochSamples
from longtail.training.evaluation import evaluation_batch_size, evaluation_logits
from longtail.training.images import select_images
from longtail.training.metrics import ClassTotals, Predictions, Totals
from longtail.training.objective import Task
from longtail.training.precision import CUDA_GRAPHS
from longtail.training.samples import Samples
from longtail.training.step import Rows
from longtail.training.step_runner import StepRunner
from longtail.training.step_watch import StepWatch

_WARM_UP_STEPS = 3
"""As PyTorch's documentation of CUDA graphs advises."""

_RECORDING = threading.Lock()

Work = Callable[[], None]
"""Work on tensors that stay at their addresses."""


class Recorder(Protocol):
    """How work is recorded; on a GPU CudaRecorder."""

    def warm_up(self, work: Work) -> None:
        """Do the work once, as it will be done when it is recorded."""
        ...

    def record(self, work: Work) -> Work:
        """What does the same work again; raises RuntimeError where it cannot be recorded."""
        ...


class CudaRecorder:
    """Records CUDA graphs that share their temporary memory: nothing in it is needed after a replay."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """Do the work on the stream on which it will be recorded."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """The replay of a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile, but not record: each waits for the whole GPU first.
        with (
            _RECORDING,
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay


@dataclass
class Recordings:
    """Replays of one kind of work, recorded when it has been done often enough.

    replays: by number of samples
    """

    recorder: Recorder
    replays: dict[int, Work] = field(default_factory=dict)
    _times_done: dict[int, int] = field(default_factory=dict)

    def run(self, work: Callable[[int], None], size: int) -> None:
        """Do the work on the next `size` samples."""

        def sized() -> None:
            work(size)

        times = self._times_done[size] = self._times_done.get(size, 0) + 1
        if times <= _WARM_UP_STEPS:
            self.recorder.warm_up(sized)
            return
        if size not in self.replays:
            self.replays[size] = self._recorded(sized)
        self.replays[size]()

    def _recorded(self, work: Work) -> Work:
        try:
            return self.recorder.record(work)
        except (RuntimeError, UserError) as error:
            # Of a user's own loss or network, for example, which reads a number back from the GPU.
            _say_why_not(" ".join(str(error).split("\n")[0].split()))
            return work


class TrainingGraphs:
    """The steps and evaluations of a training, recorded on the way."""

    def __init__(self, runner: StepRunner, network: nn.Module, recorder: Recorder) -> None:
        self._steps = _Steps(runner, Recordings(recorder))
        self._evaluations = {
            split: _Evaluation(network, samples, runner.task, runner.rank, Recordings(recorder))
            for split, samples in runner.task.data.held_out.items()
        }

    def take_steps(self, plan: EpochPlan, watch: StepWatch | None) -> None:
        """Take an epoch's steps."""
        self._steps.take(plan, watch)

    def measure(self) -> tuple[dict[str, Totals], dict[str, Predictions]]:
        """Per-class sums and predictions of each held-out split."""
        measured = {split: evaluation.measure() for split, evaluation in self._evaluations.items()}
        return {split: it[0] for split, it in measured.items()}, {split: it[1] for split, it in measured.items()}


class _Steps:
    def __init__(self, runner: StepRunner, recordings: Recordings) -> None:
        device = runner.rank.device
        self._runner, self._recordings = runner, recordings
        self._next_sample = torch.zeros(1, dtype=torch.int64, device=device)
        self._next_step = torch.zeros(1, dtype=torch.int64, device=device)
        self._rate = torch.zeros((), device=device)
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        self._no_rows = Rows(nothing, nothing, 0)
        self._samples: EpochSamples | None = None

    def take(self, plan: EpochPlan, watch: StepWatch | None) -> None:
        self._load(plan)
        self._runner.set_learning_rate(self._rate)
        for batch in plan.batches:
            self._runner.rank.beat("forward")
            self._recordings.run(self._take_step, len(batch.indices))
            if watch:
                watch.step_done()
        # A number again: the optimizer's state is saved.
        self._runner.set_learning_rate(plan.rates[-1])

    def _load(self, plan: EpochPlan) -> None:
        rates = torch.tensor(plan.rates, device=self._rate.device)
        if self._samples is None:
            self._samples, self._rates = plan.samples.copied(), rates
        else:
            self._samples.overwrite(plan.samples)
            self._rates.copy_(rates)
        self._next_sample.zero_()
        self._next_step.zero_()

    def _take_step(self, size: int) -> None:
        assert self._samples is not None
        positions = self._next_sample + torch.arange(size, device=self._next_sample.device)  # (n,)
        samples = self._samples.part(positions)
        images = self._runner.task.data.train.images
        assert isinstance(images, Tensor)
        self._rate.copy_(self._rates[self._next_step].squeeze(0))
        self._runner.take_step(
            select_images(images, samples.indices),
            samples,
            # Not used where all steps are alike.
            number=0,
            num_steps=0,
            labelled=self._no_rows,
            unlabeled=self._no_rows,
        )
        self._next_sample += size
        self._next_step += 1


class _Evaluation:
    """Passes over a split, on one rank."""

    def __init__(self, network: nn.Module, samples: Samples, task: Task, rank: Rank, recordings: Recordings) -> None:
        self._network, self._samples, self._task, self._rank = network, samples, task, rank
        self._recordings = recordings
        self._next_image = torch.zeros(1, dtype=torch.int64, device=rank.device)
        self._ids = samples.ids.to(rank.device)
        self._totals = ClassTotals.zeros(task.data.num_classes, rank.device)
        self._found = Predictions.zeros(len(samples), rank.device)

    def measure(self) -> tuple[Totals, Predictions]:
        self._network.eval()
        for tensor in (self._next_image, self._totals.values, self._found.values):
            tensor.zero_()
        size = evaluation_batch_size(self._samples.image_shape)
        for start in range(0, len(self._samples), size):
            self._rank.beat("evaluation")
            self._recordings.run(self._add_batch, min(size, len(self._samples) - start))
        return self._totals.as_lists(), Predictions(self._found.values.clone())

    @torch.inference_mode()
    def _add_batch(self, size: int) -> None:
        samples, task = self._samples, self._task
        assert isinstance(samples.images, Tensor)
        positions = self._next_image + torch.arange(size, device=self._next_image.device)  # (n,)
        images = select_images(samples.images, positions)
        inputs, targets = task.objective.evaluation_inputs(
            task.data, images, samples.labels[positions], self._ids[positions]
        )
        logits = evaluation_logits(self._network, inputs, task)  # (n, num_classes)
        self._totals.add(logits, targets, task.objective.loss(logits, targets))
        self._found.put(positions, logits, targets)
        self._next_image += size


def training_graphs(runner: StepRunner, network: nn.Module) -> TrainingGraphs | None:
    """Graphs of the training if --compile asks for them; None, with a line that says why, where they are impossible.

    network: the module that is evaluated, not compiled
    """
    if runner.options.compile not in CUDA_GRAPHS:
        return None
    if (reason := why_not(runner)) is not None:
        _say_why_not(reason)
        return None
    return TrainingGraphs(runner, network, CudaRecorder(runner.rank.device))


def why_not(runner: StepRunner) -> str | None:
    """What keeps the steps of a training from being recorded."""
    data, rank = runner.task.data, runner.rank
    if rank.world_size > 1:
        return "several ranks average their gradients in each step"
    if not runner.task.objective.steps_are_alike:
        return "steps of this method depend on their number"
    parts = [data.train, *data.held_out.values()]
    if not all(isinstance(it.images, Tensor) and it.images.device.type == rank.device.type for it in parts):
        return "the images do not all fit into the GPU's memory"
    return None


def _say_why_not(reason: str) -> None:
    print(f"--compile: no CUDA graphs, the steps are started one kernel at a time: {reason}", file=sys.stderr)
