"""What is learned: labels, pseudo-labels or rotations; and that withheld labels are not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, split_directory
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.training.augmentation import CropFlip, Normalisation
from longtail.training.batches import epoch_batches, epoch_size, loss_weights
from longtail.training.inference import load_classifier_checkpoint
from longtail.training.loop import build_optimizer, fit
from longtail.training.objective import Task
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.rotation import rotation_task
from longtail.training.run import run_training
from longtail.training.step import Batch
from longtail.training.supervised import supervised_task
from tests.prepared_set import image_rows, write_manifest, write_split
from tests.refusals import refused
from tests.tiny_set import (
    ALONE,
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
    write_tiny_set,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LAST = "ckpt.pth.tar"
# Twelve unlabeled images: five said to be of class 0, three of 1, four of 2; every other one surely.
PSEUDO_LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
CONFIDENCES = [0.75, 0.5] * 6


@pytest.fixture
def set_dir(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "set")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_pseudo_labels(tmp_path / "pseudo.parquet", unlabeled_ids(), PSEUDO_LABELS, CONFIDENCES)


@pytest.mark.parametrize(
    ("dataset", "choice", "mirrored"),
    [
        ("digits", "by_dataset", False), ("digits", "always", True),
        ("fashion_mnist", "by_dataset", True), ("fashion_mnist", "never", False),
    ],
)  # fmt: skip
def test_images_are_mirrored_where_that_keeps_their_class_or_as_asked(
    set_dir: Path, dataset: str, choice: str, mirrored: bool
) -> None:
    options = tiny_options(TrainOptions, dataset=dataset, horizontal_flip=choice)
    task = supervised_task(options, set_dir, read_manifest(set_dir), CPU)
    drawn = task.objective.draw(task.data, 100, torch.Generator().manual_seed(0))
    assert isinstance(drawn, CropFlip)
    assert 30 < int(drawn.flip.sum()) < 70 if mirrored else not drawn.flip.any()


def semi_options(**changes: Any) -> TrainSemiOptions:
    return tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, **changes)


def semi_task(set_dir: Path, table: Path, **changes: Any) -> Task:
    return semi_supervised_task(
        semi_options(**changes), set_dir, read_manifest(set_dir), CPU, pseudo_labels=table
    )  # fmt: skip


def test_pseudo_labelled_samples_join_the_labelled_ones_with_their_own_weight(set_dir: Path, table: Path) -> None:
    labelled = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    task = semi_task(set_dir, table, unlabeled_weight=0.25)
    assert task.data.train.ids.tolist() == [*labelled.data.train.ids.tolist(), *unlabeled_ids()]
    assert task.data.train.labels.tolist() == [*labelled.data.train.labels.tolist(), *PSEUDO_LABELS]
    assert task.data.train.weights.tolist() == [1.0] * 40 + [0.25] * 12
    unlabeled = pq.read_table(split_directory(set_dir, UNLABELED) / "part-0.parquet", partitioning=None)
    assert [image.numpy().tobytes() for image in task.data.train.images[40:]] == unlabeled.column("image").to_pylist()


def test_class_counts_include_pseudo_labels_but_shot_groups_and_normalisation_do_not(
    set_dir: Path, table: Path
) -> None:
    labelled = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    # 12 + 3 of class 1 would be few with a border of 13 on the labelled images alone.
    task = semi_task(set_dir, table, few_shot=13)
    assert task.data.class_counts == [24 + 5, 12 + 3, 4 + 4]
    assert task.data.shot_groups == ["many", "few", "few"]
    assert task.data.normalisation == labelled.data.normalisation


def test_pseudo_labels_below_the_threshold_are_dropped_and_those_at_it_kept(set_dir: Path, table: Path) -> None:
    all_of_them = semi_task(set_dir, table, confidence_threshold=0.5)
    assert len(all_of_them.data.train) == 52
    sure = semi_task(set_dir, table, confidence_threshold=0.6)
    assert sure.data.train.ids[40:].tolist() == unlabeled_ids()[::2]
    assert sure.data.train.labels[40:].tolist() == PSEUDO_LABELS[::2]
    assert sure.data.class_counts == [24 + 3, 12 + 1, 4 + 2]
    none = semi_task(set_dir, table, confidence_threshold=0.8)
    assert none.data.class_counts == COUNTS[TRAIN]


def test_a_selection_brings_only_its_own_images(set_dir: Path, tmp_path: Path, table: Path) -> None:
    places = [1, 4, 11]
    chosen = write_pseudo_labels(tmp_path / "chosen", [unlabeled_ids()[i] for i in places], [2, 0, 1], [1.0] * 3)
    everything, task = semi_task(set_dir, table), semi_task(set_dir, chosen)
    assert task.data.train.ids[40:].tolist() == [unlabeled_ids()[i] for i in places]
    assert task.data.train.labels[40:].tolist() == [2, 0, 1]
    assert torch.equal(task.data.train.images[40:], everything.data.train.images[40:][places])


def test_each_class_can_have_a_threshold_of_its_own(set_dir: Path, table: Path) -> None:
    # Of class 0 three labels are sure (0.75) and two are not (0.5), of 1 one and two, of 2 two and two.
    task = semi_task(set_dir, table, confidence_threshold=(0.6, 0.4, 0.8))
    assert task.data.class_counts == [24 + 3, 12 + 3, 4 + 0]
    assert task.data.train.labels[40:].tolist() == [0, 0, 0, 1, 1, 1]


def test_as_many_thresholds_as_classes_are_needed(set_dir: Path, table: Path) -> None:
    with refused() as messages:
        semi_task(set_dir, table, confidence_threshold=(0.5, 0.5))
    assert "--confidence_threshold has 2 thresholds, the set 3 classes" in messages[0]


def test_hard_pseudo_labels_are_classes_and_soft_ones_the_probabilities_of_the_table(
    set_dir: Path, table: Path
) -> None:
    assert torch.equal(semi_task(set_dir, table).data.train.targets, semi_task(set_dir, table).data.train.labels)
    soft = semi_task(set_dir, table, pseudo_label_type="soft", confidence_threshold=0.6).data.train
    assert soft.labels[40:].tolist() == PSEUDO_LABELS[::2]
    # A labelled image is certain; of the sure ones 0.75 goes to the label and 0.125 to each other class.
    assert soft.targets[[0, 24, 36]].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert soft.targets[[40, 43, 45]].tolist() == [[0.75, 0.125, 0.125], [0.125, 0.75, 0.125], [0.125, 0.125, 0.75]]
    assert soft.targets.shape == (40 + 6, 3)


def test_probabilities_of_another_number_of_classes_are_refused(tmp_path: Path, set_dir: Path) -> None:
    table = write_pseudo_labels(
        tmp_path / "other", unlabeled_ids(), PSEUDO_LABELS, CONFIDENCES, probabilities=[[0.5, 0.5]] * 12
    )
    with refused() as messages:
        semi_task(set_dir, table, pseudo_label_type="soft")
    assert f"{table} has probabilities of 2 classes, the set has 3" in messages[0]


@pytest.mark.parametrize("loss_type", ["CE", "LDAM"])
def test_loss_and_rule_go_by_all_samples_or_by_the_labelled_alone(set_dir: Path, table: Path, loss_type: str) -> None:
    logits, targets = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1])
    losses = {}
    for counted, counts in {"all": [29, 15, 8], "labelled": [24, 12, 4]}.items():
        task = semi_task(set_dir, table, class_counts=counted, loss_type=loss_type, train_rule="Reweight")
        assert (task.data.class_counts, task.data.rule_counts) == ([29, 15, 8], counts)
        losses[counted] = task.objective.loss(logits, targets).item()
        raw = np.array([1 / sum(0.9999**k for k in range(n)) for n in counts])
        weights = weights_of(task, [whole(torch.arange(52))], epoch=0, num_epochs=10)
        expected = raw[task.data.train.labels]
        assert np.allclose(weights, expected / expected.sum(), rtol=1e-5)
    # LDAM's margin of class 1 is 0.5 (8 / 15)^(1/4) with all samples and 0.5 (4 / 12)^(1/4) without.
    margins = [30 * 0.5 * share**0.25 if loss_type == "LDAM" else 0 for share in (8 / 15, 4 / 12)]
    by_hand = [np.log(1 + (np.exp(3) + np.exp(1)) / np.exp(2 - margin)) for margin in margins]
    assert [losses["all"], losses["labelled"]] == pytest.approx(by_hand, rel=1e-5)


def test_the_round_of_the_pseudo_labels_is_recorded(tmp_path: Path, set_dir: Path) -> None:
    table = write_pseudo_labels(tmp_path / "second", unlabeled_ids(), PSEUDO_LABELS, CONFIDENCES, this_round=2)
    paths = paths_of(set_dir, tmp_path / "run", pseudo_labels=table)
    result = run_training(semi_options(), paths, ALONE, attempt=1)
    assert result["pseudo_label_round"] == 2
    assert load_classifier_checkpoint(tmp_path / "run" / LAST).metadata.pseudo_label_round == 2
    assert (
        supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU).data.pseudo_label_round == 0
    )


def test_a_table_of_several_rounds_is_refused(tmp_path: Path, set_dir: Path) -> None:
    for number, ids in ((1, unlabeled_ids()[:6]), (2, unlabeled_ids()[6:])):
        write_pseudo_labels(tmp_path / str(number), ids, PSEUDO_LABELS[:6], CONFIDENCES[:6], this_round=number)
    (tmp_path / "2" / "part-0.parquet").rename(tmp_path / "1" / "part-1.parquet")
    with refused() as messages:
        semi_task(set_dir, tmp_path / "1")
    assert f"{tmp_path / '1'} has pseudo-labels of the rounds [1, 2], not of one" in messages[0]


def test_sample_weights_are_those_of_the_classes_times_those_of_the_samples(set_dir: Path, table: Path) -> None:
    task = semi_task(set_dir, table, unlabeled_weight=0.25, train_rule="DRW")
    batches = [whole(places) for places in torch.arange(52).split(26)]
    of_samples = np.array([1.0] * 40 + [0.25] * 12)
    raw = np.array([1 / sum(0.9999**k for k in range(n)) for n in (29, 15, 8)])
    for epoch, of_classes in ((7, np.ones(3)), (8, raw)):
        weights = of_classes[task.data.train.labels] * of_samples
        expected = np.concatenate([weights[:26] / weights[:26].sum(), weights[26:] / weights[26:].sum()])
        assert np.allclose(weights_of(task, batches, epoch=epoch, num_epochs=10), expected, rtol=1e-5)


def epoch_of(task: Task, *, batch_size: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    when = {"epoch": 0, "num_epochs": 10}
    batches = epoch_batches(
        task.data, task.objective.train_rule, batch_size, ALONE, **when, shuffle_buffer=100, generator=generator
    )
    return [batch.indices for batch in batches]


def weights_of(task: Task, batches: list[Batch], *, epoch: int, num_epochs: int) -> torch.Tensor:
    return loss_weights(task.data, task.objective.train_rule, batches, epoch=epoch, num_epochs=num_epochs)


def whole(indices: torch.Tensor) -> Batch:
    """A step of one rank."""
    return Batch(indices, slice(0, len(indices)))


def test_without_a_ratio_all_samples_are_shuffled_together(set_dir: Path, table: Path) -> None:
    task = semi_task(set_dir, table)
    batches = epoch_of(task, batch_size=20)
    assert sorted(torch.cat(batches).tolist()) == list(range(52))
    assert [len(batch) for batch in batches] == [18, 17, 17]
    assert {
        int((batch >= 40).sum()) for batch in (b for s in range(20) for b in epoch_of(task, batch_size=20, seed=s))
    } > {4}


@pytest.mark.parametrize(("ratio", "unlabeled"), [(0.2, 8), (1.5, 60)])
def test_with_a_ratio_every_batch_has_its_part_of_both(
    set_dir: Path, table: Path, ratio: float, unlabeled: int
) -> None:
    task = semi_task(set_dir, table, unlabeled_ratio=ratio)
    batches = epoch_of(task, batch_size=20)
    seen = torch.cat(batches)
    assert sorted(seen[seen < 40].tolist()) == list(range(40)), "every labelled sample comes once"
    assert epoch_size(task.data) == len(seen) == 40 + unlabeled
    assert [int((batch < 40).sum()) for batch in batches] == [20, 20]
    assert [int((batch >= 40).sum()) for batch in batches] == [unlabeled // 2] * 2
    # Of 12 none comes a second time before all came.
    times = torch.bincount(seen[seen >= 40] - 40, minlength=12)
    assert times.max() - times.min() <= 1
    assert (batches[0][:20] >= 40).any(), "mixed, so that each rank has its share of both"


def test_the_loss_of_two_batches_is_the_mean_of_one_plus_omega_times_that_of_the_other(
    set_dir: Path, table: Path
) -> None:
    task = semi_task(set_dir, table, unlabeled_ratio=0.5, unlabeled_weight=0.3, train_rule="Reweight")
    batches = epoch_of(task, batch_size=20)
    weights = loss_weights(
        task.data, task.objective.train_rule, [whole(places) for places in batches], epoch=0, num_epochs=10
    )
    raw = np.array([1 / sum(0.9999**k for k in range(n)) for n in (29, 15, 8)])
    for batch, of_batch in zip(batches, weights.split([30, 30]), strict=True):
        expected = raw[task.data.train.labels[batch]]
        own = batch.numpy() < 40
        expected[own] /= expected[own].sum()
        expected[~own] *= 0.3 / expected[~own].sum()
        assert np.allclose(of_batch, expected, rtol=1e-5)


def test_a_ratio_needs_a_pseudo_label(set_dir: Path, table: Path) -> None:
    with refused() as messages:
        semi_task(set_dir, table, unlabeled_ratio=1.0, confidence_threshold=0.9)
    assert "no pseudo-label is confident enough for a batch: lower --confidence_threshold" in messages[0]


def test_a_ratio_that_rounds_to_no_image_is_refused(set_dir: Path, table: Path) -> None:
    task = semi_task(set_dir, table, unlabeled_ratio=0.01)
    with refused() as messages:
        epoch_size(task.data)
    assert messages[0] == ("--unlabeled_ratio 0.01 of 40 labelled images is no image in an epoch: give at least 0.025")


@pytest.mark.parametrize(
    "changes",
    [
        {"pseudo_label_type": "soft"},
        {"unlabeled_ratio": 2.0, "train_rule": "Resample"},
        {"pseudo_label_type": "soft", "unlabeled_ratio": 0.5, "loss_type": "LDAM", "train_rule": "DRW"},
        {"pseudo_label_type": "soft", "loss_type": "Focal", "class_counts": "labelled", "train_rule": "ClassBalanced"},
    ],
)
def test_every_way_to_use_pseudo_labels_trains(
    tmp_path: Path, set_dir: Path, table: Path, changes: dict[str, Any]
) -> None:
    paths = paths_of(set_dir, tmp_path / "run", pseudo_labels=table)
    result = run_training(semi_options(epochs=2, **changes), paths, ALONE, attempt=1)
    train = result["splits"][TRAIN]
    images = 40 * (1 + changes["unlabeled_ratio"]) if "unlabeled_ratio" in changes else 52
    assert sum(train["totals"]["support"]) == images
    assert np.isfinite(train["loss"])


@pytest.mark.parametrize(
    ("ids", "labels", "named"),
    [
        ([*unlabeled_ids(), unlabeled_ids()[0]], [*PSEUDO_LABELS, 0], "labels other images than the unlabeled part"),
        ([i + 1 for i in unlabeled_ids()], PSEUDO_LABELS, "labels other images than the unlabeled part"),
        (unlabeled_ids(), [*PSEUDO_LABELS[:-1], 3], "has labels outside 0..2"),
        (unlabeled_ids(), [-1, *PSEUDO_LABELS[1:]], "has a negative label"),
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
    blank = replace(task.data.train, images=torch.full_like(task.data.train.images, 100))
    task = task.with_data(train=blank, held_out={}, normalisation=Normalisation((100 / 255,), (1.0,)))
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


@pytest.mark.parametrize("loss_type", ["Focal", "FocalNormalised"])
def test_the_step_of_a_focal_loss_under_reweighting(set_dir: Path, loss_type: str) -> None:
    """By the derivatives of (1 - e^-x) x at x = w log 3, or at x = log 3 times the weight: e^-x x + 1 - e^-x."""
    options = tiny_options(TrainOptions, loss_type=loss_type, train_rule="Reweight", **ONE_STEP)
    task = supervised_task(options, set_dir, read_manifest(set_dir), CPU)
    weights = np.array([1 / sum(0.9999**k for k in range(n)) for n in (24, 12, 4)])
    weights *= 3 / weights.sum()
    ce = np.log(3) * (weights if loss_type == "Focal" else np.ones(3))
    slopes = weights * (np.exp(-ce) * ce + 1 - np.exp(-ce)) * np.array([24, 12, 4])
    slopes /= 40 if loss_type == "Focal" else (weights * [24, 12, 4]).sum()
    assert learned_bias(task, options) == pytest.approx(slopes - slopes.sum() / 3, abs=1e-6)


def test_the_step_with_soft_pseudo_labels_is_that_of_their_probabilities(set_dir: Path, table: Path) -> None:
    options = semi_options(pseudo_label_type="soft", **ONE_STEP)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), CPU, pseudo_labels=table)
    labels, confidences = np.array(PSEUDO_LABELS), np.array(CONFIDENCES)
    shares = [
        ((labels == c) * confidences + (labels != c) * (1 - confidences) / 2).sum() + n
        for c, n in enumerate((24, 12, 4))
    ]
    assert learned_bias(task, options) == pytest.approx(np.array(shares) / 52 - 1 / 3, abs=1e-6)


def test_the_step_with_a_batch_of_pseudo_labels_adds_omega_times_their_mean(set_dir: Path, table: Path) -> None:
    options = semi_options(unlabeled_ratio=0.3, unlabeled_weight=0.5, **ONE_STEP)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), CPU, pseudo_labels=table)
    own, pseudo = np.array([24, 12, 4]) / 40, np.array([5, 3, 4]) / 12
    assert learned_bias(task, options) == pytest.approx(own - 1 / 3 + 0.5 * (pseudo - 1 / 3), abs=1e-6)


def test_the_step_with_pseudo_labels_weights_them_by_omega(set_dir: Path, table: Path) -> None:
    options = semi_options(unlabeled_weight=0.25, **ONE_STEP)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), CPU, pseudo_labels=table)
    weights = np.array([24 + 5 / 4, 12 + 3 / 4, 4 + 4 / 4])
    assert learned_bias(task, options) == pytest.approx(weights / weights.sum() - 1 / 3, abs=1e-6)
