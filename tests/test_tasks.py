"""What is learned: labels, pseudo-labels or rotations; and that withheld labels are not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from conf.schema import PretrainRotOptions, TrainOptions, TrainSemiOptions
from data.contract import HIDDEN_LABEL, TEST, TRAIN, UNLABELED, split_directory
from data.manifest import read_manifest
from models.build import build_model
from tests.prepared_set import image_rows, write_manifest, write_split
from tests.refusals import refused
from tests.tiny_set import (
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
    write_tiny_set,
)
from training.augmentation import Normalisation
from training.distributed import Rank
from training.loop import build_optimizer, fit
from training.run import run_training
from training.tasks import Task, rotation_task, semi_supervised_task, supervised_task

CPU = torch.device("cpu")
ALONE = Rank(0, 1, CPU)
LAST = "ckpt.pth.tar"
# Twelve unlabeled images: five said to be of class 0, three of 1, four of 2; every other one surely.
PSEUDO_LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
CONFIDENCES = [0.75, 0.5] * 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small only lose by being shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def set_dir(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "set")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_pseudo_labels(tmp_path / "pseudo.parquet", unlabeled_ids(), PSEUDO_LABELS, CONFIDENCES)


def semi_options(**changes: Any) -> TrainSemiOptions:
    return tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, **changes)


def semi_task(set_dir: Path, table: Path, **changes: Any) -> Task:
    return semi_supervised_task(
        semi_options(**changes), set_dir, read_manifest(set_dir), CPU, pseudo_labels=table
    )  # fmt: skip


def test_pseudo_labelled_samples_join_the_labelled_ones_with_their_own_weight(set_dir: Path, table: Path) -> None:
    labelled = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    task = semi_task(set_dir, table, unlabeled_weight=0.25)
    assert task.train.ids.tolist() == [*labelled.train.ids.tolist(), *unlabeled_ids()]
    assert task.train.labels.tolist() == [*labelled.train.labels.tolist(), *PSEUDO_LABELS]
    assert task.train.weights.tolist() == [1.0] * 40 + [0.25] * 12
    unlabeled = pq.read_table(split_directory(set_dir, UNLABELED) / "part-0.parquet", partitioning=None)
    assert [image.numpy().tobytes() for image in task.train.images[40:]] == unlabeled.column("image").to_pylist()


def test_class_counts_include_pseudo_labels_but_shot_groups_and_normalisation_do_not(
    set_dir: Path, table: Path
) -> None:
    labelled = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    # 12 + 3 of class 1 would be few with a border of 13 on the labelled images alone.
    task = semi_task(set_dir, table, few_shot=13)
    assert task.class_counts == [24 + 5, 12 + 3, 4 + 4]
    assert task.shot_groups == ["many", "few", "few"]
    assert task.normalisation == labelled.normalisation
    assert task.phase == "train_semi"


def test_pseudo_labels_below_the_threshold_are_dropped_and_those_at_it_kept(set_dir: Path, table: Path) -> None:
    all_of_them = semi_task(set_dir, table, confidence_threshold=0.5)
    assert len(all_of_them.train) == 52
    sure = semi_task(set_dir, table, confidence_threshold=0.6)
    assert sure.train.ids[40:].tolist() == unlabeled_ids()[::2]
    assert sure.train.labels[40:].tolist() == PSEUDO_LABELS[::2]
    assert sure.class_counts == [24 + 3, 12 + 1, 4 + 2]
    none = semi_task(set_dir, table, confidence_threshold=0.8)
    assert none.class_counts == COUNTS[TRAIN]


def test_a_selection_brings_only_its_own_images(set_dir: Path, tmp_path: Path, table: Path) -> None:
    places = [1, 4, 11]
    chosen = write_pseudo_labels(tmp_path / "chosen", [unlabeled_ids()[i] for i in places], [2, 0, 1], [1.0] * 3)
    everything, task = semi_task(set_dir, table), semi_task(set_dir, chosen)
    assert task.train.ids[40:].tolist() == [unlabeled_ids()[i] for i in places]
    assert task.train.labels[40:].tolist() == [2, 0, 1]
    assert torch.equal(task.train.images[40:], everything.train.images[40:][places])


def test_sample_weights_are_those_of_the_classes_times_those_of_the_samples(set_dir: Path, table: Path) -> None:
    task = semi_task(set_dir, table, unlabeled_weight=0.25, train_rule="DRW")
    assert torch.equal(task.sample_weights(epoch=7, num_epochs=10), task.train.weights)
    raw = np.array([1 / sum(0.9999**k for k in range(n)) for n in (29, 15, 8)])
    expected = (raw / raw.mean())[task.train.labels] * np.array([1.0] * 40 + [0.25] * 12)
    assert np.allclose(task.sample_weights(epoch=8, num_epochs=10), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("ids", "labels", "named"),
    [
        ([*unlabeled_ids(), unlabeled_ids()[0]], [*PSEUDO_LABELS, 0], "labels other images than the unlabeled part"),
        ([i + 1 for i in unlabeled_ids()], PSEUDO_LABELS, "labels other images than the unlabeled part"),
        (unlabeled_ids(), [*PSEUDO_LABELS[:-1], 3], "has labels outside 0..2"),
        (unlabeled_ids(), [-1, *PSEUDO_LABELS[1:]], "has labels outside 0..2"),
    ],
)
def test_pseudo_labels_of_another_set_are_refused(
    tmp_path: Path, set_dir: Path, ids: list[int], labels: list[int], named: str
) -> None:
    table = write_pseudo_labels(tmp_path / "other", ids, labels, [1.0] * len(ids))
    with refused() as messages:
        semi_task(set_dir, table)
    assert str(table) in messages[0] and named in messages[0]


def test_training_never_reads_the_withheld_labels(tmp_path: Path, set_dir: Path, table: Path) -> None:
    def train(name: str) -> dict[str, torch.Tensor]:
        run_training(semi_options(), paths_of(set_dir, tmp_path / name, pseudo_labels=table), ALONE, attempt=1)
        return weights_in(tmp_path / name / LAST)

    with_labels = train("with")
    file = split_directory(set_dir, UNLABELED) / "part-0.parquet"
    rows = pq.read_table(file, partitioning=None)
    assert HIDDEN_LABEL in rows.column_names
    pq.write_table(rows.drop_columns([HIDDEN_LABEL]), file)
    assert same_tensors(train("without"), with_labels)


def test_supervised_training_does_not_read_the_unlabeled_part(tmp_path: Path, set_dir: Path) -> None:
    file = split_directory(set_dir, UNLABELED) / "part-0.parquet"
    file.write_bytes(b"damaged")
    result = run_training(tiny_options(TrainOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert result["class_counts"] == COUNTS[TRAIN]


def test_rotation_training_does_not_use_the_labels(tmp_path: Path, set_dir: Path) -> None:
    other = write_tiny_set(tmp_path / "other labels", label_shift=7)
    labels = [
        pq.read_table(split_directory(directory, TRAIN), partitioning=None).column("label").to_pylist()
        for directory in (set_dir, other)
    ]
    assert labels[0] != labels[1]
    for name, directory in (("a", set_dir), ("b", other)):
        run_training(tiny_options(PretrainRotOptions), paths_of(directory, tmp_path / name), ALONE, attempt=1)
    assert same_tensors(weights_in(tmp_path / "a" / LAST), weights_in(tmp_path / "b" / LAST))


def test_rotation_training_sees_every_image_at_one_turn(tmp_path: Path, set_dir: Path) -> None:
    result = run_training(tiny_options(PretrainRotOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert result["phase"] == "pretrain_rot"
    assert result["class_names"] == ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]
    turns = result["splits"][TRAIN]["totals"]["support"]
    assert sum(turns) == 40
    assert min(turns) > 0, "forty throws of four kinds"
    # Held-out images have fixed turns, id modulo 4: thirty ids in a row have seven or eight of each.
    assert sorted(result["splits"][TEST]["totals"]["support"]) == [7, 7, 8, 8]


def test_rotation_needs_square_images(tmp_path: Path) -> None:
    write_manifest(tmp_path, {TRAIN: [2, 1]}, image_shape=(8, 6, 1))
    write_split(tmp_path, TRAIN, image_rows([0, 1, 2], np.zeros((3, 8, 6, 1), np.uint8), labels=[0, 0, 1]))
    with refused() as messages:
        rotation_task(tiny_options(PretrainRotOptions), tmp_path, read_manifest(tmp_path), CPU)
    assert "rotation needs square images, digits has 8x6" in messages[0]


@pytest.mark.parametrize("loss_type", ["CE", "LDAM"])
def test_a_pretrained_model_gives_its_backbone_and_not_its_head(tmp_path: Path, set_dir: Path, loss_type: str) -> None:
    run_training(tiny_options(PretrainRotOptions, seed=1), paths_of(set_dir, tmp_path / "rot"), ALONE, attempt=1)
    pretrained = tmp_path / "rot" / LAST
    # A rate at which nothing is learned: the weights at the end are those of the beginning.
    options = tiny_options(
        TrainOptions, seed=2, learning_rate=1e-30, loss_type=loss_type, pretrained_model=pretrained
    )  # fmt: skip
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    weights, source = weights_in(tmp_path / "run" / LAST), weights_in(pretrained)
    torch.manual_seed(2)
    head = "cosine" if loss_type == "LDAM" else "linear"
    fresh = build_model("resnet20", num_classes=3, in_channels=1, head=head).state_dict()
    learned = [name for name in fresh if name.endswith(("weight", "bias"))]
    for name in learned:
        assert torch.equal(weights[name], (fresh if name.startswith("fc.") else source)[name]), name
    assert not torch.equal(source["conv1.weight"], fresh["conv1.weight"])


def learned_bias(task: Task, options: TrainOptions) -> list[float]:
    """The bias of a linear model after one step at rate 1 from zero, on images that are zero once normalised.

    From softmax(0) = 1/3 each, the bias moves by its share of the weight of the batch, less 1/3.
    """
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(linear[1].weight)
    nn.init.zeros_(linear[1].bias)
    blank = replace(task.train, images=torch.full_like(task.train.images, 100))
    task = replace(task, train=blank, evaluation={}, normalisation=Normalisation((100 / 255,), (1.0,)))
    fit(linear, build_optimizer(linear, options), task, options, ALONE, first_epoch=0, on_epoch=lambda report: None)
    return linear[1].bias.tolist()


ONE_STEP = {"batch_size": 100, "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}


def test_the_step_is_that_of_the_mean_over_the_batch(set_dir: Path) -> None:
    options = tiny_options(TrainOptions, **ONE_STEP)
    task = supervised_task(options, set_dir, read_manifest(set_dir), CPU)
    shares = np.array([24, 12, 4]) / 40
    assert learned_bias(task, options) == pytest.approx(shares - 1 / 3, abs=1e-6)


def test_the_step_under_reweighting_is_that_of_the_weighted_mean(set_dir: Path) -> None:
    options = tiny_options(TrainOptions, train_rule="Reweight", **ONE_STEP)
    task = supervised_task(options, set_dir, read_manifest(set_dir), CPU)
    # Inverse effective numbers, which for sizes so small are nearly inverse sizes: each class a third.
    weights = np.array([n / sum(0.9999**k for k in range(n)) for n in (24, 12, 4)])
    assert learned_bias(task, options) == pytest.approx(weights / weights.sum() - 1 / 3, abs=1e-6)


def test_the_step_with_pseudo_labels_weights_them_by_omega(set_dir: Path, table: Path) -> None:
    options = semi_options(unlabeled_weight=0.25, **ONE_STEP)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), CPU, pseudo_labels=table)
    weights = np.array([24 + 5 / 4, 12 + 3 / 4, 4 + 4 / 4])
    assert learned_bias(task, options) == pytest.approx(weights / weights.sum() - 1 / 3, abs=1e-6)
