"""FixMatch: its loss by hand, its views, and that unlabeled images count for no class and keep their secret."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, split_directory
from longtail.data.manifest import read_manifest
from longtail.training.augmentation import crop_and_flip
from longtail.training.batches import epoch_batches, epoch_size, loss_weights, sample_class_weights
from longtail.training.fixmatch import fixmatch_losses, fixmatch_task
from longtail.training.losses import cross_entropy
from longtail.training.metrics import ClassTotals
from longtail.training.objective import Task
from longtail.training.randaugment import randaugment
from longtail.training.run import run_training
from longtail.training.semi.views import without_square
from tests.refusals import refused
from tests.tiny_set import (
    ALONE,
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_tiny_set,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LAST = "ckpt.pth.tar"


@pytest.fixture
def set_dir(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "set")


def options(**changes: Any) -> TrainSemiOptions:
    return tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, semi_method="fixmatch", **changes)


def task_of(set_dir: Path, **changes: Any) -> Task:
    return fixmatch_task(options(**changes), set_dir, read_manifest(set_dir), CPU)


def losses_of(logits: Tensor, targets: Tensor, thresholds: Tensor) -> Tensor:
    """FixMatch's, of logits (V n, C), with pseudo-labels as the weak views have them."""
    logits = logits.view(-1, len(targets), len(thresholds))
    weak = logits[0].detach().softmax(dim=1)
    confidence, pseudo_labels = weak.max(dim=1)
    is_sure = confidence >= thresholds[pseudo_labels]
    return fixmatch_losses(logits, targets, pseudo_labels, is_sure, loss=cross_entropy)


def test_the_loss_by_hand() -> None:
    # Probabilities 1/4 and 3/4 of logits 0 and log 3, or turned round.
    low, high = [0.0, math.log(3)], [math.log(3), 0.0]
    weak = [low, low, low, high]
    strong = [high, high, low, low]
    targets = torch.tensor([0, NO_CLASS, NO_CLASS, NO_CLASS])
    losses = losses_of(torch.tensor(weak + strong), targets, torch.tensor([0.8, 0.75]))
    # Labelled 0: its weak view. Taken for 1 surely enough: strong views that say 1/4 and 3/4. For 0: not surely enough.
    assert losses.tolist() == pytest.approx([math.log(4), math.log(4), math.log(4 / 3), 0], rel=1e-5)
    # With a second strong view, that always says 0 with 3/4, the mean of both.
    losses = losses_of(torch.tensor(weak + strong + [high] * 4), targets, torch.tensor([0.8, 0.75]))
    means = [math.log(4), math.log(4), (math.log(4 / 3) + math.log(4)) / 2, 0]
    assert losses.tolist() == pytest.approx(means, rel=1e-5)


def test_nothing_is_learned_from_the_weak_view_of_an_unlabeled_image_or_the_strong_one_of_a_labelled() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([2, NO_CLASS, NO_CLASS])
    losses_of(logits, targets, torch.zeros(4)).sum().backward()
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [True, False, False, False, True, True]
    fixed = logits.detach()[:3]
    assert torch.autograd.gradcheck(
        lambda strong: losses_of(torch.cat([fixed, strong]), targets, torch.zeros(4)),
        logits.detach()[3:].requires_grad_(),
    )


def test_labels_come_first_and_unlabeled_images_are_of_no_class(set_dir: Path) -> None:
    task = task_of(set_dir, unlabeled_weight=0.5)
    assert task.data.train.ids[40:].tolist() == unlabeled_ids()
    assert task.data.train.labels[40:].tolist() == [NO_CLASS] * 12
    assert task.data.train.weights.tolist() == [1.0] * 40 + [0.5] * 12
    assert (task.data.class_counts, task.data.rule_counts) == (COUNTS[TRAIN], COUNTS[TRAIN])
    assert (epoch_size(task.data), task.data.unlabeled_ratio) == (40 + 280, 7)


@pytest.mark.parametrize("train_rule", ["None", "Reweight", "Resample", "ClassBalanced"])
def test_unlabeled_images_weigh_alike_whatever_the_rule(set_dir: Path, train_rule: str) -> None:
    task = task_of(set_dir, unlabeled_weight=0.5, train_rule=train_rule)
    when = {"epoch": 0, "num_epochs": 1}
    generator = torch.Generator().manual_seed(0)
    batches = epoch_batches(task.data, train_rule, 20, ALONE, **when, shuffle_buffer=100, generator=generator)
    order, weights = (
        torch.cat([batch.indices for batch in batches]),
        loss_weights(task.data, train_rule, batches, **when),
    )
    assert torch.allclose(weights[order >= 40], torch.tensor(0.5 / 140))
    assert weights[order < 40].sum() == pytest.approx(2, rel=1e-5)
    inner = sample_class_weights(task.data, train_rule, order, **when)
    assert (inner[order >= 40] == 1).all()
    assert (inner[order < 40] != 1).all() == (train_rule == "Reweight")


@pytest.mark.parametrize(("balancing", "num_strong"), [("none", 1), ("ABC", 2)])
def test_the_weak_views_are_cropped_and_flipped_and_the_strong_ones_also_changed_and_cut(
    set_dir: Path, balancing: str, num_strong: int
) -> None:
    task = task_of(set_dir, strong_operations=3, balancing=balancing)
    images, targets = task.data.train.images[:6], task.data.train.targets[:6]
    drawn = task.objective.draw(task.data, 8, torch.Generator().manual_seed(0))
    choices = drawn.part(slice(2, 8)).to(CPU)
    inputs, same = task.objective.training_inputs(task.data, images, targets, choices)
    assert same is targets and inputs.shape == (6 + 6 * num_strong, 1, 8, 8)
    assert torch.equal(inputs[:6], task.data.normalisation.apply(crop_and_flip(images, choices.weak, mirrored=True)))
    assert len(choices.strong) == num_strong
    crops = [choices.weak, *(strong.crop_flip for strong in choices.strong)]
    assert len({tuple(crop.top.tolist()) for crop in crops}) == 1 + num_strong
    for view, strong in enumerate(choices.strong, start=1):
        assert torch.equal(strong.operations.operation, drawn.strong[view - 1].operations.operation[2:])
        assert strong.operations.operation.shape == (6, 3)
        changed = randaugment(crop_and_flip(images, strong.crop_flip, mirrored=True) / 255, strong.operations)
        changed = task.data.normalisation.apply_to_unit(changed)
        for found, whole, row, column in zip(
            inputs[6 * view : 6 * view + 6], changed, strong.row, strong.column, strict=True
        ):
            rows, columns = slice(max(0, row - 2), row + 2), slice(max(0, column - 2), column + 2)
            expected = whole.clone()
            expected[:, rows, columns] = 0
            assert torch.allclose(found, expected, atol=1e-6)
        assert {int(n) for field in (strong.row, strong.column) for n in field} <= set(range(8))


def test_the_square_has_half_the_height_and_may_reach_over_the_border() -> None:
    cut = without_square(torch.ones(2, 3, 8, 8), torch.tensor([4, 0]), torch.tensor([4, 7]))
    assert (cut == 0).sum(dim=(1, 2, 3)).tolist() == [3 * 4 * 4, 3 * 2 * 3]
    assert (cut[0, :, 2:6, 2:6] == 0).all() and (cut[1, :, 0:2, 5:8] == 0).all()


def test_totals_leave_out_what_has_no_class() -> None:
    totals = ClassTotals.zeros(2, CPU)
    logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    totals.add(logits, torch.tensor([0, NO_CLASS, NO_CLASS]), torch.tensor([1.0, 2.0, 4.0]))
    found = totals.as_lists()
    assert (found["support"], found["correct"], found["predicted"]) == ([1, 0], [1, 0], [1, 0])
    assert found["loss_sum"] == [1, 0] and found["confidence_sum"][1] == 0


def test_a_training_counts_the_labelled_images_and_learns_nothing_from_the_withheld_labels(
    set_dir: Path, tmp_path: Path
) -> None:
    def train(name: str) -> dict[str, Any]:
        given = options(unlabeled_ratio=0.5, confidence_threshold=0.4)
        return run_training(given, paths_of(set_dir, tmp_path / name), ALONE, attempt=1)

    result = train("with")
    assert result["splits"][TRAIN]["totals"]["support"] == COUNTS[TRAIN]
    assert math.isfinite(result["splits"][TRAIN]["loss"])
    assert (result["class_counts"], result["pseudo_label_round"]) == (COUNTS[TRAIN], 0)
    file = split_directory(set_dir, UNLABELED) / "part-0.parquet"
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns([HIDDEN_LABEL]), file)
    train("without")
    assert same_tensors(weights_in(tmp_path / "with" / LAST), weights_in(tmp_path / "without" / LAST))


def test_the_unlabeled_images_are_learned_from(set_dir: Path, tmp_path: Path) -> None:
    for name, threshold in (("all", 0.0), ("none", 1.0)):
        given = options(unlabeled_ratio=0.5, confidence_threshold=threshold)
        run_training(given, paths_of(set_dir, tmp_path / name), ALONE, attempt=1)
    assert not same_tensors(weights_in(tmp_path / "all" / LAST), weights_in(tmp_path / "none" / LAST))


def test_a_set_without_an_unlabeled_part_is_refused(set_dir: Path, tmp_path: Path) -> None:
    manifest = read_manifest(set_dir)
    (tmp_path / "less").mkdir()
    (tmp_path / "less" / "rows").symlink_to(set_dir / "rows")
    file = split_directory(set_dir, UNLABELED) / "part-0.parquet"
    pq.write_table(pq.read_table(file, partitioning=None)[:0], file)
    replace(manifest, counts={**manifest.counts, UNLABELED: [0, 0, 0]}).write(tmp_path / "less")
    with refused() as messages:
        task_of(tmp_path / "less")
    assert "has no unlabeled part: give --imb_factor_unlabel" in messages[0]
