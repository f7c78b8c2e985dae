"""Two ranks, two processes: they learn what one would, each sample once, and only the first one writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from longtail.conf.options.fixmatch import BALANCING
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.training.classifier import class_means
from longtail.training.contrastive import MoCo, SimCLR, contrastive_task
from longtail.training.distributed import Rank
from longtail.training.fixmatch import fixmatch_module, fixmatch_task
from longtail.training.kept_features import computed_features
from longtail.training.loop import EpochReport, build_optimizer, fit
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run import run_training
from longtail.training.supervised import supervised_task
from tests.tiny_set import COUNTS, paths_of, tiny_options, unlabeled_ids, write_pseudo_labels, write_tiny_set

CPU = torch.device("cpu")
WORLD_SIZE = 2
# 40 images in 3 batches: 14, 13 and 13, so the ranks' parts are unequal; DRW weights the last two of nine epochs.
LINEAR = tiny_options(TrainOptions, epochs=9, train_rule="DRW", world_size=WORLD_SIZE)
# A batch of 16 labelled and 24 pseudo-labelled images, shared out.
MIXED = tiny_options(
    TrainSemiOptions, epochs=3, imb_factor_unlabel=1.0, unlabeled_ratio=1.5, pseudo_label_type="soft",
    unlabeled_weight=0.5, world_size=WORLD_SIZE,
)  # fmt: skip
# One step of all images: the weights move by the learning rate times the gradient.
ONE_STEP = tiny_options(
    TrainOptions, batch_size=41, learning_rate=1.0, momentum=0.0, weight_decay=0.0, train_rule="Reweight"
)  # fmt: skip
CONTRASTIVE = {"moco": PretrainMocoOptions, "simclr": PretrainSimclrOptions}
NETWORK = tiny_options(TrainOptions, epochs=2, world_size=WORLD_SIZE)
# Nothing is kept in memory: each rank reads its part of the row groups from the files.
STREAMED = tiny_options(TrainOptions, epochs=2, world_size=WORLD_SIZE, max_resident_gib=0, shuffle_buffer=12)


def fit_linear(set_dir: Path, rank: Rank, options: TrainOptions) -> dict[str, Any]:
    """Weights, totals and losses of a linear classifier, which has no batch norm to tell the world sizes apart."""
    manifest = read_manifest(set_dir)
    if isinstance(options, TrainSemiOptions):
        task = semi_supervised_task(options, set_dir, manifest, CPU, pseudo_labels=set_dir.parent / "pseudo")
    else:
        task = supervised_task(options, set_dir, manifest, CPU)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    before = model[1].weight.detach().clone()
    reports: list[EpochReport] = []
    totals = fit(
        model, build_optimizer(model, options), task, options, rank, first_epoch=0, on_epoch=reports.append
    )  # fmt: skip
    losses = [[sum(report.totals[split]["loss_sum"]) for split in (TRAIN, TEST)] for report in reports]
    return {"before": before.tolist(), "after": model[1].weight.tolist(), "totals": totals, "losses": losses}


def fit_contrastive(set_dir: Path, rank: Rank, method: str) -> dict[str, Any]:
    """Weights, queue and loss of a linear projection after two epochs of contrastive training."""
    options = tiny_options(CONTRASTIVE[method], epochs=2, learning_rate=0.5)
    task = contrastive_task(
        options, set_dir, read_manifest(set_dir), CPU, anchors_per_image=1 if method == "moco" else 2
    )  # fmt: skip
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    before = network[1].weight.detach().clone()
    if method == "moco":
        model = MoCo(network, rank, dimension=8, queue_size=20, key_momentum=0.9, temperature=0.2)
    else:
        model = SimCLR(network, rank, temperature=0.5)
    totals = fit(
        model, build_optimizer(model, options), task, options, rank, first_epoch=0, on_epoch=lambda report: None
    )  # fmt: skip
    return {
        "moved": (network[1].weight - before).tolist(),
        "queue": model.queue.tolist() if method == "moco" else [],
        "loss": sum(totals[TRAIN]["loss_sum"]),
        "support": totals[TRAIN]["support"],
    }


class Pixels(nn.Module):
    """A linear classifier whose features are the pixels: without batch norm, to tell no world sizes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 3)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images))


def fit_semi(set_dir: Path, rank: Rank, method: str) -> dict[str, Any]:
    """What three epochs of FixMatch with a method leave: weights, the method's state, counts of pseudo-labels."""
    options = tiny_options(
        TrainSemiOptions, epochs=3, imb_factor_unlabel=1.0, semi_method="fixmatch", balancing=method,
        unlabeled_ratio=1.5, confidence_threshold=0.4, darp_warmup=0.2, darp_every=2, daso_warmup=0.2,
        world_size=rank.world_size,
    )  # fmt: skip
    torch.manual_seed(0)
    task = fixmatch_task(options, set_dir, read_manifest(set_dir), CPU)
    network = Pixels()
    before = network.fc.weight.detach().clone()
    task, model = fixmatch_module(network, options, task, rank)
    reports: list[EpochReport] = []
    fit(model, build_optimizer(model, options), task, options, rank, first_epoch=0, on_epoch=reports.append)
    return {
        "moved": (network.fc.weight - before).tolist(),
        "state": {name: values.tolist() for name, values in model.method.state_dict().items()},
        "losses": [sum(report.totals[TRAIN]["loss_sum"]) for report in reports],
        "pseudo_labels": [report.pseudo_labels for report in reports],
    }


def mean_features(set_dir: Path, rank: Rank) -> list[list[float]]:
    """Mean feature of each class, by a network that has learned nothing."""
    task = supervised_task(LINEAR, set_dir, read_manifest(set_dir), CPU)
    torch.manual_seed(0)
    model = build_model("resnet20", num_classes=3, in_channels=1)
    data = task.data
    features = computed_features(model, data.train, data.normalisation, rank)
    return class_means(features, data.train.labels, num_classes=3).tolist()


def train_classifier(set_dir: Path, directory: Path, rank: Rank) -> dict[str, Any]:
    """A classifier on the network that the ranks trained."""
    dist.barrier()  # rank 0 has written its checkpoint
    options = tiny_options(
        TrainClassifierOptions, epochs=2, world_size=WORLD_SIZE, resume=directory / "rank0" / "run" / "ckpt.pth.tar"
    )
    return run_training(options, paths_of(set_dir, directory / f"rank{rank.rank}" / "classifier"), rank, attempt=1)


def rank_main(rank: int, directory: Path, set_dir: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=WORLD_SIZE)
    try:
        this = Rank(rank, WORLD_SIZE, CPU)
        outcome = {
            "linear": fit_linear(set_dir, this, LINEAR),
            "mixed": fit_linear(set_dir, this, MIXED),
            "one step": fit_linear(set_dir, this, ONE_STEP),
            # A directory of its own for each rank, to see which of them writes.
            "network": run_training(NETWORK, paths_of(set_dir, directory / f"rank{rank}" / "run"), this, attempt=1),
        }
        outcome["streamed"] = run_training(STREAMED, paths_of(set_dir, directory / f"streamed{rank}"), this, attempt=1)
        outcome |= {method: fit_contrastive(set_dir, this, method) for method in CONTRASTIVE}
        outcome |= {method: fit_semi(set_dir, this, method) for method in BALANCING}
        outcome["means"] = mean_features(set_dir, this)
        outcome["classifier"] = train_classifier(set_dir, directory, this)
        (directory / f"outcome{rank}.json").write_text(json.dumps(outcome))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside it the pseudo-labels of its unlabeled part."""
    parent = tmp_path_factory.mktemp("data")
    write_pseudo_labels(parent / "pseudo", unlabeled_ids(), [0, 1, 2] * 4, [0.75, 0.5] * 6)
    return write_tiny_set(parent / "set")


@pytest.fixture(scope="module")
def directory(set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left after their trainings."""
    directory = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")  # 127.0.0.1
        mp.spawn(rank_main, args=(directory, set_dir), nprocs=WORLD_SIZE)
    return directory


@pytest.fixture(scope="module")
def outcomes(directory: Path) -> list[dict[str, Any]]:
    return [json.loads((directory / f"outcome{rank}.json").read_text()) for rank in range(WORLD_SIZE)]


@pytest.fixture(scope="module")
def alone(set_dir: Path, one_thread: None) -> dict[str, Any]:
    """The linear trainings of one process."""
    rank = Rank(0, 1, CPU)
    given = {"linear": LINEAR, "mixed": MIXED, "one step": ONE_STEP}
    return {name: fit_linear(set_dir, rank, options) for name, options in given.items()}


def test_two_ranks_take_the_step_of_one(outcomes: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    gradients = [
        torch.tensor(outcome["one step"]["before"]) - torch.tensor(outcome["one step"]["after"])
        for outcome in (alone, *outcomes)
    ]
    assert gradients[0].abs().max() > 0.1
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], rtol=1e-4, atol=1e-6)


def test_two_ranks_see_every_image_once_when_they_read_from_files(outcomes: list[dict[str, Any]]) -> None:
    support = {split: found["totals"]["support"] for split, found in outcomes[0]["streamed"]["splits"].items()}
    assert support == {split: COUNTS[split] for split in (TRAIN, VAL, TEST)}


@pytest.mark.parametrize("training", ["linear", "mixed"])
def test_two_ranks_learn_what_one_learns(outcomes: list[dict[str, Any]], alone: dict[str, Any], training: str) -> None:
    for outcome in outcomes:
        trained = torch.tensor(outcome[training]["after"])
        assert torch.allclose(trained, torch.tensor(alone[training]["after"]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("training", "epochs"), [("linear", 9), ("mixed", 3)])
def test_two_ranks_have_the_loss_curve_of_one(
    outcomes: list[dict[str, Any]], alone: dict[str, Any], training: str, epochs: int
) -> None:
    curve = torch.tensor(alone[training]["losses"])
    assert curve.shape == (epochs, 2)
    assert abs(curve[-1, 0] - curve[0, 0]) > 0.1 * curve[0, 0], "a curve, not a line"
    for outcome in outcomes:
        assert torch.allclose(torch.tensor(outcome[training]["losses"]), curve, rtol=1e-4)


def test_the_ranks_have_the_same_weights(outcomes: list[dict[str, Any]]) -> None:
    assert outcomes[0]["linear"]["after"] == outcomes[1]["linear"]["after"]


@pytest.mark.parametrize("split", [TRAIN, VAL, TEST])
def test_every_sample_is_counted_once_whatever_the_world_size(
    outcomes: list[dict[str, Any]], alone: dict[str, Any], split: str
) -> None:
    for outcome in (alone, *outcomes):
        assert outcome["linear"]["totals"][split]["support"] == COUNTS[split]
    for field in ("correct", "predicted", "loss_sum", "confidence_sum"):
        expected = pytest.approx(alone["linear"]["totals"][split][field], rel=1e-3)
        assert all(outcome["linear"]["totals"][split][field] == expected for outcome in outcomes)


def test_a_network_counts_every_sample_once_too(outcomes: list[dict[str, Any]]) -> None:
    splits = outcomes[0]["network"]["splits"]
    assert {split: scores["totals"]["support"] for split, scores in splits.items()} == {
        split: COUNTS[split] for split in (TRAIN, VAL, TEST)
    }


def test_the_predictions_of_the_ranks_become_one_confusion_matrix(outcomes: list[dict[str, Any]]) -> None:
    test = outcomes[0]["network"]["splits"][TEST]
    confusion, totals = test["confusion"], test["totals"]
    cells = list(zip(confusion["target"], confusion["predicted"], confusion["count"], strict=True))
    for class_id in range(3):
        assert sum(count for target, _, count in cells if target == class_id) == totals["support"][class_id]
        assert sum(count for _, guess, count in cells if guess == class_id) == totals["predicted"][class_id]


def test_only_the_first_rank_writes_and_returns_the_result(directory: Path, outcomes: list[dict[str, Any]]) -> None:
    assert outcomes[1]["network"] == {}
    assert json.loads((directory / "rank0" / "run" / "result.json").read_text()) == outcomes[0]["network"]
    assert (directory / "rank0" / "run" / "ckpt.pth.tar").exists()
    # Of rank 1 only its sign of life was there, and that ends with it.
    assert [path for path in (directory / "rank1").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("method", CONTRASTIVE)
def test_two_ranks_compute_the_contrastive_training_of_one(
    outcomes: list[dict[str, Any]], set_dir: Path, method: str
) -> None:
    alone = fit_contrastive(set_dir, Rank(0, 1, CPU), method)
    assert torch.tensor(alone["moved"]).abs().max() > 0.01
    for outcome in outcomes:
        ours = outcome[method]
        assert torch.allclose(torch.tensor(ours["moved"]), torch.tensor(alone["moved"]), rtol=1e-2, atol=1e-5)
        assert torch.allclose(torch.tensor(ours["queue"]), torch.tensor(alone["queue"]), rtol=1e-3, atol=1e-5)
        assert ours["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert ours["support"] == alone["support"] == [40 if method == "moco" else 80, 0]


@pytest.mark.parametrize("method", BALANCING)
def test_two_ranks_learn_by_fixmatch_and_its_methods_what_one_does(
    outcomes: list[dict[str, Any]], set_dir: Path, method: str, one_thread: None
) -> None:
    alone = fit_semi(set_dir, Rank(0, 1, CPU), method)
    assert torch.tensor(alone["moved"]).abs().max() > 0.01
    for outcome in outcomes:
        ours = outcome[method]
        assert torch.allclose(torch.tensor(ours["moved"]), torch.tensor(alone["moved"]), rtol=1e-2, atol=1e-5)
        assert ours["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        assert ours["state"].keys() == alone["state"].keys()
        for name, values in alone["state"].items():
            assert torch.allclose(torch.tensor(ours["state"][name]), torch.tensor(values), rtol=1e-3, atol=1e-4), name
        for epoch, counts in enumerate(alone["pseudo_labels"]):
            for field in ("support", "correct", "predicted"):
                assert ours["pseudo_labels"][epoch][field] == counts[field], field


def test_the_mean_features_are_those_of_all_ranks(outcomes: list[dict[str, Any]], set_dir: Path) -> None:
    alone = torch.tensor(mean_features(set_dir, Rank(0, 1, CPU)))
    for outcome in outcomes:
        assert torch.allclose(torch.tensor(outcome["means"]), alone, rtol=1e-4, atol=1e-6)


def test_a_classifier_alone_is_trained_by_two_ranks_too(outcomes: list[dict[str, Any]], directory: Path) -> None:
    assert outcomes[0]["classifier"]["splits"][TEST]["totals"]["support"] == COUNTS[TEST]
    assert sum(outcomes[0]["classifier"]["splits"][TRAIN]["totals"]["support"]) == sum(COUNTS[TRAIN])
    assert outcomes[1]["classifier"] == {}


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("num_items", [0, 1, 6, 7, 13, 128])
def test_shares_of_the_ranks_cover_all_items_and_are_nearly_equal(num_items: int, world_size: int) -> None:
    items = list(range(num_items))
    parts = [items[Rank(rank, world_size, CPU).part(num_items)] for rank in range(world_size)]
    assert [item for part in parts for item in part] == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
