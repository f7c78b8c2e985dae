"""The second stage of decoupled training: what is learned, what stays as it was, and what the formulas give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.conf.base.files import content_hash
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.models.heads import ScaledLinearHead
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.classifier import TAU_GRID, choose_tau, tau_normalised
from longtail.training.inference import infer
from longtail.training.run import run_training
from longtail.training.samples import Samples
from longtail.training.supervised import supervised_task
from tests.events import events_in
from tests.interruption import interrupted_after
from tests.refusals import refused
from tests.tiny_set import ALONE, COUNTS, paths_of, same_tensors, tiny_options, weights_in, write_tiny_set

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LAST = "ckpt.pth.tar"


def trained(set_dir: Path, run_dir: Path, **changes: Any) -> Path:
    run_training(tiny_options(TrainOptions, **changes), paths_of(set_dir, run_dir), ALONE, attempt=1)
    return run_dir / LAST


@pytest.fixture(scope="module")
def base(set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a network trained on all labels, with a linear head."""
    return trained(set_dir, tmp_path_factory.mktemp("base") / "run", epochs=5)


def second_stage(set_dir: Path, run_dir: Path, base: Path, **changes: Any) -> dict[str, Any]:
    options = tiny_options(TrainClassifierOptions, resume=base, **{"epochs": 3, "seed": 3, **changes})
    return run_training(options, paths_of(set_dir, run_dir), ALONE, attempt=1)


def backbone(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


def split_of(set_dir: Path, split: str) -> Samples:
    task = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    return task.data.train if split == TRAIN else task.data.held_out[split]


def features_of(set_dir: Path, checkpoint: Path, split: str) -> np.ndarray:
    """(N, 64) float64 features of a split, by the checkpoint's network at rest."""
    task = supervised_task(tiny_options(TrainOptions), set_dir, read_manifest(set_dir), CPU)
    model = build_model("resnet20", num_classes=3, in_channels=1).eval()
    model.load_state_dict({**model.state_dict(), **backbone(weights_in(checkpoint))})
    with torch.no_grad():
        return model.features(task.data.normalisation.apply(split_of(set_dir, split).images)).double().numpy()


@pytest.mark.parametrize("method", ["cRT", "LWS", "tau", "NCM"])
def test_the_backbone_stays_as_it_was_to_the_last_bit_with_its_batch_norm(
    set_dir: Path, base: Path, tmp_path: Path, method: str
) -> None:
    second_stage(set_dir, tmp_path / "run", base, method=method)
    assert same_tensors(backbone(weights_in(tmp_path / "run" / LAST)), backbone(weights_in(base)))


@pytest.mark.parametrize("method", ["cRT", "LWS", "tau", "NCM"])
def test_what_comes_out_is_evaluated_and_labels_like_any_network(
    set_dir: Path, base: Path, tmp_path: Path, method: str
) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method=method)
    assert result["phase"] == "classifier"
    # What was learned survives: the classes of the tiny set are easy to tell apart, guessing gives a third.
    assert result["splits"][TEST]["balanced_accuracy"] > 0.6
    checkpoint = tmp_path / "run" / LAST
    options = tiny_options(TrainOptions, resume=checkpoint, evaluate=True)
    again = run_evaluation(options, paths_of(set_dir, tmp_path / "none"), ALONE)
    assert again["splits"][TEST]["class_accuracy"] == result["splits"][TEST]["class_accuracy"]
    test = split_of(set_dir, TEST)
    images = test.images.permute(0, 2, 3, 1).numpy()
    logits = infer(checkpoint, content_hash(checkpoint), images, batch_size=7).logits
    confidences, labels = logits.softmax(dim=1).max(dim=1)
    assert (labels == test.labels).double().mean().item() == pytest.approx(result["splits"][TEST]["accuracy"])
    assert confidences.sum() == pytest.approx(sum(result["splits"][TEST]["totals"]["confidence_sum"]), rel=1e-4)
    (file,) = (tmp_path / "events").glob("*-epoch00001.parquet")
    rates = {event["learning_rate"] for event in events_in(file) if event["kind"] == "class"}
    assert (rates == {None}) == (method in ("tau", "NCM")), "what learns nothing has no learning rate"


def test_crt_trains_a_fresh_head_on_class_balanced_draws(set_dir: Path, base: Path, tmp_path: Path) -> None:
    # At a rate at which nothing is learned the head stays as the seed made it, whatever the checkpoint's is.
    second_stage(set_dir, tmp_path / "still", base, learning_rate=1e-30)
    torch.manual_seed(3)
    fresh = build_model("resnet20", num_classes=3, in_channels=1).state_dict()
    assert torch.equal(weights_in(tmp_path / "still" / LAST)["fc.weight"], fresh["fc.weight"])
    result = second_stage(set_dir, tmp_path / "run", base)
    assert not torch.equal(weights_in(tmp_path / "run" / LAST)["fc.weight"], fresh["fc.weight"])
    drawn = result["splits"][TRAIN]["totals"]["support"]
    # 40 draws at a third each: between 6 and 21 of a class, but for one time in a thousand; 24, 12 and 4 are there.
    assert sum(drawn) == 40 and 6 <= min(drawn) <= max(drawn) <= 21


@pytest.mark.parametrize("method", ["cRT", "LWS"])
def test_on_kept_features_a_head_learns_what_it_learns_on_images_that_are_not_augmented(
    set_dir: Path, base: Path, tmp_path: Path, method: str
) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method=method, kept_features=True, epochs=20)
    assert result["splits"][TEST]["balanced_accuracy"] > 0.6
    ours = weights_in(tmp_path / "run" / LAST)
    assert same_tensors(backbone(ours), backbone(weights_in(base)))
    if method == "LWS":
        assert torch.equal(ours["fc.weight"], weights_in(base)["fc.weight"]) and (ours["fc.scales"] != 1).all()
    # What was measured on the features is what the saved network gives for the images.
    expected = (
        features_of(set_dir, base, TEST) @ ours["fc.weight"].double().numpy().T + ours["fc.bias"].double().numpy()
    )
    expected = expected * (ours["fc.scales"].double().numpy() if method == "LWS" else 1)
    assert result["splits"][TEST]["totals"]["predicted"] == np.bincount(expected.argmax(axis=1), minlength=3).tolist()


@pytest.mark.parametrize("method", ["tau", "NCM"])
def test_what_is_computed_from_features_has_no_choice_of_images(base: Path, method: str) -> None:
    with pytest.raises(ValueError, match=f"--method {method} always takes kept features: leave out --kept_features"):
        tiny_options(TrainClassifierOptions, resume=base, method=method, kept_features=True)


def test_crt_on_a_cosine_head_follows_the_loss(set_dir: Path, base: Path, tmp_path: Path) -> None:
    second_stage(set_dir, tmp_path / "run", base, loss_type="LDAM")
    assert weights_in(tmp_path / "run" / LAST)["fc.weight"].shape == (64, 3)


def test_lws_learns_one_scale_a_class_and_nothing_else(set_dir: Path, base: Path, tmp_path: Path) -> None:
    second_stage(set_dir, tmp_path / "run", base, method="LWS")
    ours, theirs = weights_in(tmp_path / "run" / LAST), weights_in(base)
    assert torch.equal(ours["fc.weight"], theirs["fc.weight"]) and torch.equal(ours["fc.bias"], theirs["fc.bias"])
    assert ours["fc.scales"].shape == (3,)
    assert (ours["fc.scales"] != 1).all()


def test_a_scaled_head_multiplies_the_outputs_of_a_linear_one() -> None:
    head = ScaledLinearHead(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        head.bias.copy_(torch.tensor([0.5, 0.0, -1.0]))
        head.scales.copy_(torch.tensor([1.0, 2.0, -1.0]))
    # (1 - 2 + 0.5), 2 (3 - 4), -(5 - 6 - 1)
    assert head(torch.tensor([[1.0, -1.0]])).tolist() == [[-0.5, -2.0, 2.0]]


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_tau_divides_each_class_s_weights_by_a_power_of_their_length(
    set_dir: Path, base: Path, tmp_path: Path, tau: float
) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method="tau", tau_norm=tau)
    weight = weights_in(base)["fc.weight"].double().numpy()
    expected = weight / np.sqrt((weight**2).sum(axis=1, keepdims=True)) ** tau
    ours = weights_in(tmp_path / "run" / LAST)
    assert np.allclose(ours["fc.weight"], expected, rtol=1e-5)
    assert torch.equal(ours["fc.bias"], torch.zeros(3))
    assert result["chosen_on_validation"] == {}, "it was given"
    predicted = (features_of(set_dir, base, TEST) @ expected.T).argmax(axis=1)
    assert result["splits"][TEST]["totals"]["predicted"] == np.bincount(predicted, minlength=3).tolist()


def test_tau_is_the_smallest_with_the_best_balanced_accuracy() -> None:
    weight = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    # Class 1's image is right where 4^(1 - tau) * 0.6 < 1, from tau = 1 - log 0.6^-1 / log 4 = 0.63 on.
    features, labels = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.6, 1.0]]), torch.tensor([0, 0, 1])
    assert tau_normalised(weight, 1.0).tolist() == [[1, 0], [0, 1]]
    assert choose_tau(weight, features, labels) == 0.7
    # Without an image of class 1 nothing is better than leaving the weights as they are.
    assert choose_tau(weight, features[:2], labels[:2]) == 0
    assert (TAU_GRID[0], TAU_GRID[-1]) == (0, 2)


def test_tau_is_chosen_on_validation_data_and_said(set_dir: Path, base: Path, tmp_path: Path) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method="tau")
    weight = weights_in(base)["fc.weight"].double().numpy()
    features, labels = features_of(set_dir, base, VAL), split_of(set_dir, VAL).labels.numpy()
    scores = []
    for tau in np.arange(21) / 10:
        predicted = (features @ (weight / np.linalg.norm(weight, axis=1, keepdims=True) ** tau).T).argmax(axis=1)
        scores.append(np.mean([(predicted == labels)[labels == c].mean() for c in range(3)]))
    assert result["chosen_on_validation"] == {"tau_norm": pytest.approx(np.argmax(scores) / 10)}
    assert result["best_on_validation"]["val_balanced_accuracy"] == pytest.approx(max(scores))


def test_tau_is_never_chosen_on_test_data(tmp_path: Path, base: Path) -> None:
    without = write_tiny_set(tmp_path / "set", with_validation=False)
    with refused() as messages:
        second_stage(without, tmp_path / "run", base, method="tau")
    assert "give --val_fraction, or --tau_norm" in messages[0]
    second_stage(without, tmp_path / "given", base, method="tau", tau_norm=1.0)


def test_ncm_takes_the_class_whose_mean_feature_has_the_smallest_angle(
    set_dir: Path, base: Path, tmp_path: Path
) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method="NCM")
    learned, labels = features_of(set_dir, base, TRAIN), split_of(set_dir, TRAIN).labels.numpy()
    means = np.stack([learned[labels == c].mean(axis=0) for c in range(3)])
    assert np.allclose(weights_in(tmp_path / "run" / LAST)["fc.weight"], means.T, rtol=1e-4, atol=1e-6)
    tested = features_of(set_dir, base, TEST)
    cosines = tested @ means.T / np.linalg.norm(tested, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    assert result["splits"][TEST]["totals"]["predicted"] == np.bincount(cosines.argmax(axis=1), minlength=3).tolist()


def test_a_classifier_that_learns_nothing_still_reports_its_one_epoch(
    set_dir: Path, base: Path, tmp_path: Path
) -> None:
    result = second_stage(set_dir, tmp_path / "run", base, method="NCM")
    assert result["epoch"] == 1
    assert result["splits"][TRAIN]["totals"]["support"] == COUNTS[TRAIN]
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == [
        f"run-attempt001-{what}" for what in ("epoch00001.parquet", "finished.jsonl", "started.jsonl")
    ]


def test_a_stopped_classifier_goes_on_as_if_it_had_not_stopped(set_dir: Path, base: Path, tmp_path: Path) -> None:
    second_stage(set_dir, tmp_path / "undisturbed", base)
    with interrupted_after(1):
        second_stage(set_dir, tmp_path / "stopped", base)
    second_stage(set_dir, tmp_path / "stopped", base)
    assert same_tensors(weights_in(tmp_path / "stopped" / LAST), weights_in(tmp_path / "undisturbed" / LAST))


@pytest.mark.parametrize("method", ["tau", "LWS"])
def test_methods_that_change_a_linear_classifier_refuse_a_checkpoint_with_another(
    set_dir: Path, tmp_path: Path, method: str
) -> None:
    cosine = trained(set_dir, tmp_path / "base", loss_type="LDAM")
    with refused() as messages:
        second_stage(set_dir, tmp_path / "run", cosine, method=method, tau_norm=1.0)
    assert f"--method {method} needs a linear classifier" in messages[0]


def test_a_checkpoint_of_another_network_is_refused(set_dir: Path, base: Path, tmp_path: Path) -> None:
    with refused() as messages:
        second_stage(set_dir, tmp_path / "run", base, arch="resnet32")
    assert "give -a resnet20" in messages[0]
