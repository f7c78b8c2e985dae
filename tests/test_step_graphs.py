"""Steps that are recorded and replayed learn what steps taken one by one learn; what cannot be recorded is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import read_manifest
from longtail.training import loop, step_graphs
from longtail.training.method import method_of
from longtail.training.metrics import ClassTotals
from longtail.training.run import run_training
from longtail.training.step_graphs import training_graphs
from longtail.training.step_runner import StepRunner
from tests.events import events_in
from tests.interruption import interrupted_after
from tests.recorded_work import WorkRecorder
from tests.tiny_set import ALONE, paths_of, same_tensors, tiny_options, unlabeled_ids, weights_in, write_pseudo_labels

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = "ckpt.pth.tar"
COMMON = {"epochs": 5, "arch": "tests.test_precision:one_block", "lr_schedule": "cosine_7_16"}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> WorkRecorder:
    """In the place of a GPU's."""
    recorder = WorkRecorder()
    monkeypatch.setattr(step_graphs, "CudaRecorder", lambda device: recorder)
    monkeypatch.setattr(loop, "compile_model", lambda model, options, device: model)
    return recorder


def outcome(set_dir: Path, run_dir: Path, options: RunOptions, **paths: Any) -> tuple[dict[str, Tensor], list[Any]]:
    """Weights and class events of a run."""
    run_training(options, paths_of(set_dir, run_dir, **paths), ALONE, attempt=1)
    events = [event for event in events_in(*sorted((run_dir.parent / "events").iterdir())) if event["kind"] == "class"]
    told = ("epoch", "split", "class_id", "support", "correct", "predicted", "loss_sum", "confidence_sum")
    return weights_in(run_dir / LAST), [[event[name] for name in told] for event in events]


def clipped_focal(logits: Tensor, targets: Tensor, *, class_counts: Tensor) -> Tensor:
    """A loss of a user's own."""
    return nn.functional.cross_entropy(logits, targets, reduction="none").clamp(max=5)


def reading_back(logits: Tensor, targets: Tensor, *, class_counts: Tensor) -> Tensor:
    """A loss that reads a number back from the device."""
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    return losses / max(1.0, losses.detach().max().item())


TRAININGS: dict[str, RunOptions] = {
    "labels": tiny_options(TrainOptions, **COMMON),
    "LDAM-DRW": tiny_options(TrainOptions, **COMMON, loss_type="LDAM", train_rule="DRW", nesterov=True),
    "resampled, focal": tiny_options(TrainOptions, **COMMON, loss_type="Focal", train_rule="Resample"),
    "own loss": tiny_options(TrainOptions, **COMMON, loss_type="tests.test_step_graphs:clipped_focal"),
    "soft pseudo-labels": tiny_options(TrainSemiOptions, **COMMON, pseudo_label_type="soft", imb_factor_unlabel=0.5),
    "rotation": tiny_options(PretrainRotOptions, **COMMON),
    "MoCo": tiny_options(PretrainMocoOptions, **COMMON),
    "SimCLR": tiny_options(PretrainSimclrOptions, **COMMON),
}


@pytest.mark.parametrize("training", TRAININGS)
def test_replayed_steps_learn_what_single_steps_learn(
    set_dir: Path, tmp_path: Path, recorder: WorkRecorder, training: str
) -> None:
    options = TRAININGS[training]
    pseudo_labels = None
    if training == "soft pseudo-labels":
        ids = unlabeled_ids()
        pseudo_labels = write_pseudo_labels(tmp_path / "table", ids, [0] * len(ids), [0.5] * len(ids))
    weights, events = outcome(set_dir, tmp_path / "single" / "run", options, pseudo_labels=pseudo_labels)
    assert recorder.num_replays == 0
    graphs = options.model_copy(update={"compile": "cuda_graphs"})
    replayed_weights, replayed_events = outcome(
        set_dir, tmp_path / "replayed" / "run", graphs, pseudo_labels=pseudo_labels
    )
    # The first three batches of each size are no replays, nor are the first three passes over each held-out split.
    num_splits = len({event[1] for event in events} - {TRAIN})
    num_steps = 17 if pseudo_labels else 2 + 7  # 52 samples: batches of 13; 40: of 14, 13 and 13
    assert recorder.num_replays == num_steps + 2 * num_splits
    assert weights.keys() == replayed_weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(replayed_weights[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    np.testing.assert_equal([event[:6] for event in replayed_events], [event[:6] for event in events])
    np.testing.assert_allclose(
        np.array([event[6:] for event in replayed_events], float),
        np.array([event[6:] for event in events], float),
        rtol=1e-3,
        atol=1e-4,
    )


def test_an_interrupted_training_goes_on_exactly_with_replayed_steps(
    set_dir: Path, tmp_path: Path, recorder: WorkRecorder
) -> None:
    options = TRAININGS["LDAM-DRW"].model_copy(update={"compile": "cuda_graphs"})
    whole, _ = outcome(set_dir, tmp_path / "whole" / "run", options)
    replays = recorder.num_replays
    with interrupted_after(3):
        outcome(set_dir, tmp_path / "parts" / "run", options)
    resumed, _ = outcome(set_dir, tmp_path / "parts" / "run", options)
    assert same_tensors(whole, resumed)
    assert replays < recorder.num_replays < 2 * replays


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    set_dir: Path, tmp_path: Path, recorder: WorkRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tiny_options(TrainOptions, **COMMON, loss_type="tests.test_step_graphs:reading_back")
    weights, _ = outcome(set_dir, tmp_path / "single" / "run", options)
    assert not capsys.readouterr().err
    graphs = options.model_copy(update={"compile": "cuda_graphs"})
    same, _ = outcome(set_dir, tmp_path / "graphs" / "run", graphs)
    torch.testing.assert_close(weights, same, rtol=1e-3, atol=1e-5)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("--compile: no CUDA graphs, the steps are started one ") for line in lines)
    assert all("in a step that is being recorded" in line for line in lines)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("two ranks", "several ranks average their gradients in each step"),
        ("FixMatch", "steps of this method depend on their number"),
        ("images elsewhere", "the images do not all fit into the GPU's memory"),
    ],
)
def test_where_graphs_are_impossible_a_line_says_why(
    set_dir: Path, tmp_path: Path, recorder: WorkRecorder, capsys: pytest.CaptureFixture[str], case: str, reason: str
) -> None:
    options_type = TrainSemiOptions if case == "FixMatch" else TrainOptions
    method = {"semi_method": "fixmatch", "imb_factor_unlabel": 0.5} if case == "FixMatch" else {}
    options = tiny_options(options_type, compile="cuda_graphs", arch=COMMON["arch"], **method)
    task = method_of(options).task(options, paths_of(set_dir, tmp_path / "run"), read_manifest(set_dir), ALONE)
    if case == "images elsewhere":
        images = task.data.train.images
        assert isinstance(images, Tensor)
        task = task.with_data(train=replace(task.data.train, images=images.to("meta")))
    model = nn.Linear(1, 1)
    rank = replace(ALONE, world_size=2) if case == "two ranks" else ALONE
    optimizer = torch.optim.SGD(model.parameters())
    runner = StepRunner(model, optimizer, task, options, rank, ClassTotals.zeros(3, rank.device))
    assert training_graphs(runner, model) is None
    assert capsys.readouterr().err == (
        f"--compile: no CUDA graphs, the steps are started one kernel at a time: {reason}\n"
    )
    assert training_graphs(replace(runner, options=options.model_copy(update={"compile": "off"})), model) is None
    assert not capsys.readouterr().err
