"""Contrastive pre-training: InfoNCE by formulas written anew, the queue, the key network, and whole runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.training.contrastive import MoCo, SimCLR
from longtail.training.losses import cross_entropy
from longtail.training.run import run_training
from tests.interruption import interrupted_after
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, same_tensors, tiny_options, weights_in, write_tiny_set

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = "ckpt.pth.tar"
METHODS = {"moco": PretrainMocoOptions, "simclr": PretrainSimclrOptions}


def linear_network() -> nn.Module:
    """(n, 1, 2, 2) to (n, 3), in float64."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()


def moco(**changes: Any) -> MoCo:
    usual = {"dimension": 3, "queue_size": 5, "key_momentum": 0.9, "temperature": 0.5}
    return MoCo(linear_network(), ALONE, **{**usual, **changes}).double()


def two_views(num_images: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(2, num_images, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True))


def projected(network: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return unit(network(images).numpy())


def losses_of(outputs: Tensor) -> Tensor:
    return cross_entropy(outputs[:, :2], torch.zeros(len(outputs), dtype=torch.int64))


def test_moco_s_loss_is_info_nce_over_the_key_and_the_queue() -> None:
    model, views = moco(), two_views()
    queue = model.queue.numpy().copy()
    losses = losses_of(model(views)).detach().numpy()
    # Both networks begin alike, so following changes nothing yet.
    queries, keys = projected(model.network, views[0]), projected(model.network, views[1])
    for q, k, loss in zip(queries, keys, losses, strict=True):
        others = sum(np.exp(q @ queue[:, j] / 0.5) for j in range(5))
        same = np.exp(q @ k / 0.5)
        assert loss == pytest.approx(-np.log(same / (same + others)), rel=1e-6)


def test_simclr_s_loss_is_nt_xent_over_both_views_of_all_images() -> None:
    model, views = SimCLR(linear_network(), ALONE, temperature=0.5), two_views()
    losses = losses_of(model(views)).detach().view(4, 2)
    z = np.concatenate([projected(model.network, views[0]), projected(model.network, views[1])])
    similar = np.exp(z @ z.T / 0.5)
    for anchor in range(8):
        partner = (anchor + 4) % 8
        denominator = sum(similar[anchor, k] for k in range(8) if k != anchor)
        expected = -np.log(similar[anchor, partner] / denominator)
        assert losses[anchor % 4, anchor // 4].item() == pytest.approx(expected, rel=1e-6)


def test_the_rank_of_the_same_image_counts_the_views_that_are_more_similar() -> None:
    model, views = moco(), two_views()
    queue = model.queue.numpy().copy()
    ranks, candidates = model(views).detach()[:, 2:].T
    queries, keys = projected(model.network, views[0]), projected(model.network, views[1])
    assert ranks.tolist() == [
        1 + sum(q @ queue[:, j] > q @ k for j in range(5)) for q, k in zip(queries, keys, strict=True)
    ]
    assert candidates.tolist() == [6] * 4

    both = SimCLR(linear_network(), ALONE, temperature=0.5)
    ranks, candidates = both(views).detach()[:, 2:].T
    z = np.concatenate([projected(both.network, views[0]), projected(both.network, views[1])])
    for anchor, rank in zip((0, 4, 1, 5, 2, 6, 3, 7), ranks.tolist(), strict=True):
        same = z[anchor] @ z[(anchor + 4) % 8]
        assert rank == 1 + sum(z[anchor] @ z[k] > same for k in range(8) if k not in (anchor, (anchor + 4) % 8))
    assert candidates.tolist() == [7] * 8


@pytest.mark.parametrize("method", ["moco", "simclr"])
def test_gradients_are_those_of_the_values(method: str) -> None:
    views = two_views(3)

    def mean_loss(weight: Tensor) -> Tensor:
        model = moco() if method == "moco" else SimCLR(linear_network(), ALONE, temperature=0.5)
        bias = model.network[1].bias.detach()
        # The keys are no function of the weights: that is what makes them keys.
        project = lambda x: x.flatten(1) @ weight.T + bias  # noqa: E731
        model.network = _Function(project)
        if method == "moco":
            model._follow = lambda: None
        return losses_of(model(views)).mean()

    weight = linear_network()[1].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(mean_loss, weight)


class _Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_the_queue_keeps_the_newest_keys() -> None:
    model = moco(queue_size=5)
    first, second, third = (two_views(2, seed) for seed in (1, 2, 3))
    keys = [projected(model.network, views[1]) for views in (first, second, third)]
    for views in (first, second):
        model(views)
    assert np.allclose(model.queue[:, :4].T, np.concatenate(keys[:2]))
    model(third)
    # Places 4 and, round the end, 0: what lay there longest is gone.
    assert np.allclose(model.queue.T, np.stack([keys[2][1], keys[0][1], keys[1][0], keys[1][1], keys[2][0]]))
    assert model.next_position == 1


def test_a_batch_larger_than_the_queue_fills_it_with_its_last_keys() -> None:
    model = moco(queue_size=3)
    views = two_views(7)
    model(views)
    assert np.allclose(model.queue.T, projected(model.network, views[1])[-3:])


def test_the_key_network_follows_slowly_and_has_no_gradient() -> None:
    model = moco(key_momentum=0.75)
    with torch.no_grad():
        model.key_network[1].bias.zero_()
        model.network[1].bias.fill_(1)
    for expected in (0.25, 0.4375):  # 1 - 0.75, 1 - 0.75^2
        losses_of(model(two_views())).sum().backward()
        assert torch.allclose(model.key_network[1].bias, torch.tensor(expected, dtype=torch.float64))
    assert model.network[1].bias.grad is not None
    assert all(parameter.grad is None for parameter in model.key_network.parameters())


def pretrain(set_dir: Path, run_dir: Path, method: str, **changes: Any) -> dict[str, Any]:
    options: RunOptions = tiny_options(METHODS[method], **{"epochs": 3, **changes})
    return run_training(options, paths_of(set_dir, run_dir), ALONE, attempt=1)


@pytest.mark.parametrize(("method", "anchors"), [("moco", 1), ("simclr", 2)])
def test_pre_training_learns_to_find_the_other_view(set_dir: Path, tmp_path: Path, method: str, anchors: int) -> None:
    losses = {}
    for learning_rate in (1e-30, 0.05):
        changes: dict[str, Any] = {"epochs": 20, "learning_rate": learning_rate}
        if method == "moco":
            changes |= {"key_momentum": 0.9, "epochs": 40}  # 120 steps in all
        result = pretrain(set_dir, tmp_path / str(learning_rate), method, **changes)
        assert (result["phase"], set(result["splits"])) == (f"pretrain_{method}", {TRAIN})
        assert result["splits"][TRAIN]["totals"]["support"] == [40 * anchors, 0]
        losses[learning_rate] = result["splits"][TRAIN]["loss"]
    assert losses[0.05] < losses[1e-30] - 0.1, losses


@pytest.mark.parametrize("method", METHODS)
def test_pre_training_does_not_use_the_labels(set_dir: Path, tmp_path: Path, method: str) -> None:
    other = write_tiny_set(tmp_path / "other labels", label_shift=7)
    for name, directory in (("a", set_dir), ("b", other)):
        pretrain(directory, tmp_path / name, method, epochs=1)
    assert same_tensors(weights_in(tmp_path / "a" / LAST), weights_in(tmp_path / "b" / LAST))


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_pretraining_resumes_with_identical_results(set_dir: Path, tmp_path: Path, method: str) -> None:
    pretrain(set_dir, tmp_path / "undisturbed", method)
    with interrupted_after(1):
        pretrain(set_dir, tmp_path / "stopped", method)
    torch.manual_seed(5)
    pretrain(set_dir, tmp_path / "stopped", method)
    ours, theirs = tmp_path / "stopped" / LAST, tmp_path / "undisturbed" / LAST
    assert same_tensors(weights_in(ours), weights_in(theirs))
    companions = [torch.load(path, weights_only=True)["companion"] for path in (ours, theirs)]
    assert same_tensors(*companions)
    assert ("queue" in companions[0]) == (method == "moco")


@pytest.mark.parametrize("method", METHODS)
def test_a_supervised_training_starts_from_pretrained_weights(set_dir: Path, tmp_path: Path, method: str) -> None:
    pretrain(set_dir, tmp_path / "ssp", method)
    options = tiny_options(TrainOptions, learning_rate=1e-30, pretrained_model=tmp_path / "ssp" / LAST)
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    ours, theirs = weights_in(tmp_path / "run" / LAST), weights_in(tmp_path / "ssp" / LAST)
    assert torch.equal(ours["layer3.2.conv2.weight"], theirs["layer3.2.conv2.weight"])
    assert theirs["fc.2.weight"].shape == (128, 64) and ours["fc.weight"].shape == (3, 64)


def test_the_queue_of_a_small_set_holds_a_quarter_of_its_images(set_dir: Path, tmp_path: Path) -> None:
    pretrain(set_dir, tmp_path / "run", "moco", epochs=1)
    assert torch.load(tmp_path / "run" / LAST, weights_only=True)["companion"]["queue"].shape == (128, 10)


def test_a_checkpoint_of_another_pretraining_cannot_be_resumed(set_dir: Path, tmp_path: Path) -> None:
    pretrain(set_dir, tmp_path / "simclr", "simclr", epochs=1)
    with refused() as messages:
        pretrain(set_dir, tmp_path / "moco", "moco", resume=tmp_path / "simclr" / LAST)
    assert "was written by pretrain_simclr, and pretrain_moco can only resume from its own checkpoints" in messages[0]
    assert PretrainRotOptions.phase not in messages[0]


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_give_no_numbers_after_the_last_step_are_refused(
    set_dir: Path, tmp_path: Path, method: str
) -> None:
    # One step: its loss is that of the initial weights; nothing is held out that would show the rest.
    with refused() as messages:
        pretrain(set_dir, tmp_path / "run", method, epochs=1, batch_size=1000, learning_rate=1e9)
    assert messages == ["the network's outputs became NaN or infinite in epoch 1: lower --lr (it is 1e+09)"]
    assert not {LAST, "result.json"} & {path.name for path in (tmp_path / "run").iterdir()}
