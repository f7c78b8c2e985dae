"""A checkpoint that version 0.2 wrote (tests/written_by_0.2/) is read, evaluated and resumed as by that version."""

from pathlib import Path

import pytest
import torch

from longtail.conf.options.training import TrainOptions
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.checkpoints import load_checkpoint
from longtail.training.run import run_training
from tests.conftest import REPOSITORY
from tests.tiny_set import ALONE, paths_of, tiny_options

WRITTEN = REPOSITORY / "tests" / "written_by_0.2"
CHECKPOINT = WRITTEN / "ckpt.pth.tar"
NETWORK = "tests.written_network:small"


def test_the_checkpoint_has_what_was_written() -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    metadata = checkpoint.metadata
    assert (checkpoint.epoch, checkpoint.arch, checkpoint.companion) == (60, NETWORK, {})
    assert {name: tuple(tensor.shape) for name, tensor in checkpoint.state_dict.items()} == {
        "conv1.weight": (4, 1, 3, 3), "conv1.bias": (4,), "fc.weight": (10, 4), "fc.bias": (10,)
    }  # fmt: skip
    assert checkpoint.optimizer is not None and checkpoint.best is not None and metadata is not None
    assert (checkpoint.best.epoch, checkpoint.best.val_balanced_accuracy) == (60, 0.2)
    assert (metadata.phase, metadata.head, metadata.image_shape) == ("train", "linear", (8, 8, 1))
    assert metadata.class_names == [str(digit) for digit in range(10)]
    assert metadata.class_counts == metadata.rule_counts == [6, 5, 4, 4, 3, 2, 2, 1, 1, 1]
    assert (metadata.options["seed"], metadata.options["learning_rate"]) == (0, 0.5)


def test_its_scores_are_those_that_the_training_reported(tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, arch=NETWORK, resume=CHECKPOINT, evaluate=True)
    result = run_evaluation(options, paths_of(WRITTEN / "prepared_set", tmp_path / "unused"), ALONE)
    totals = result["splits"]["test"]["totals"]
    assert totals["correct"] == [50, 25, 21, 20, 0, 0, 0, 0, 0, 0]
    assert totals["predicted"] == [297, 50, 62, 91, 0, 0, 0, 0, 0, 0]
    assert sum(totals["loss_sum"]) == pytest.approx(500 * 2.444510211776942, rel=1e-5)


def test_a_training_resumes_from_it(tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, arch=NETWORK, resume=CHECKPOINT, epochs=61)
    paths = paths_of(WRITTEN / "prepared_set", tmp_path / "run")
    assert run_training(options, paths, ALONE, attempt=1)["epoch"] == 61
    before, after = load_checkpoint(CHECKPOINT).state_dict, load_checkpoint(paths.run_dir / "ckpt.pth.tar").state_dict
    moved = [(after[name] - before[name]).abs().max() for name in before]
    assert 0 < max(moved) < 1, "one epoch at a low rate moves the weights a little"
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
