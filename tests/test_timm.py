"""Networks of timm: made for any images, filled from files of weights, trained whole, in part or by the head alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.models.build import build_checked_model
from longtail.models.network import Network
from longtail.models.timm_network import TimmNetwork
from longtail.training import kept_features
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.checkpoints import checkpoint_content, load_checkpoint, tensors_in
from longtail.training.distributed import Rank
from longtail.training.inference import load_classifier
from longtail.training.kept_features import computed_features
from longtail.training.run import run_training
from longtail.training.samples import Samples
from longtail.training.timm_weights import load_timm_weights
from longtail.training.tuning import learn_last_blocks
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, weights_in, write_tiny_set

pytestmark = pytest.mark.usefixtures("one_thread")

RESNET = "test_resnet"
ARCH = f"timm:{RESNET}"
VIT = "test_vit"  # as small as timm has one, for images of 160 x 160


def weights_file(name: str, file: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """Random weights of a classifier of 7 classes, as other programs save them; returns the tensors."""
    torch.manual_seed(7)
    tensors = {**timm.create_model(name, num_classes=7).state_dict(), **changes}
    tensors = {key: value.contiguous() for key, value in tensors.items() if value is not None}
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}}, file)
    return tensors


def trained(set_dir: Path, root: Path, **options: Any) -> tuple[dict[str, Any], Path]:
    """The result of a training, and its checkpoint."""
    result = run_training(tiny_options(TrainOptions, **options), paths_of(set_dir, root), ALONE, attempt=1)
    (checkpoint,) = root.rglob("ckpt.pth.tar")
    return result, checkpoint


@pytest.mark.parametrize(("name", "size"), [(RESNET, 8), (VIT, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_is_made_for_the_images_of_the_set(name: str, size: int, channels: int) -> None:
    network = build_checked_model(f"timm:{name}", num_outputs=5, image_shape=(channels, size, size), head="cosine")
    images = torch.rand(2, channels, size, size)
    assert network(images).shape == (2, 5)
    assert torch.equal(network(images), network.fc(network.features(images)))


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("timm:test_resnex", "has no such network; did you mean timm:test_resnet?"),
        (f"timm:{VIT}.of_nobody", "Invalid pretrained tag"),
        (f"timm:{VIT}", "calling it fails"),
    ],
)
def test_what_timm_cannot_make_is_refused_in_one_line(arch: str, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)) as refusal:
        build_checked_model(arch, num_outputs=5, image_shape=(3, 8, 8))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("arch", ["timm:hf-hub:x/y", "timm:local-dir:/tmp", "timm:", "timm:a.b.c"])
def test_a_name_that_would_fetch_something_is_no_name_of_a_network(arch: str) -> None:
    with refused() as messages:
        resolve_options(TrainOptions, {"dataset": "digits", "arch": arch})
    assert "timm:NAME, or package.module:factory" in messages[0]


@pytest.mark.parametrize("file_name", ["weights.safetensors", "weights.pth"])
def test_a_training_starts_from_a_file_of_weights_and_is_used_like_any_other(
    set_dir: Path, tmp_path: Path, file_name: str
) -> None:
    tensors = weights_file(RESNET, tmp_path / file_name)
    _, checkpoint = trained(
        set_dir, tmp_path / "run", arch=ARCH, pretrained_model=tmp_path / file_name, learning_rate=1e-30
    )
    found = load_checkpoint(checkpoint)
    # The set's images have one channel: timm adds up those of the first convolution.
    first = found.state_dict["backbone.conv1.0.weight"]
    assert torch.allclose(first, tensors["conv1.0.weight"].sum(dim=1, keepdim=True), atol=1e-6)
    assert torch.allclose(found.state_dict["backbone.layer3.0.conv1.weight"], tensors["layer3.0.conv1.weight"])
    # timm's configuration, not the set's own mean.
    metadata = found.metadata
    assert metadata is not None and metadata.arch == ARCH
    assert metadata.normalisation.mean == (0.5,)
    network, _ = load_classifier(checkpoint, version=content_hash(checkpoint))
    assert isinstance(network, TimmNetwork)


def test_a_transformer_takes_weights_for_images_of_another_size(tmp_path: Path) -> None:
    tensors = weights_file(VIT, tmp_path / "vit.safetensors")
    network = build_checked_model(f"timm:{VIT}", num_outputs=5, image_shape=(3, 64, 64))
    assert isinstance(network, TimmNetwork)
    load_timm_weights(network, tensors, arch=f"timm:{VIT}", path=tmp_path / "vit.safetensors")
    grown = network.backbone.state_dict()["pos_embed"]
    assert grown.shape[1] < tensors["pos_embed"].shape[1] and grown.isfinite().all()
    # For images of its own size the features are timm's.
    network = build_checked_model(f"timm:{VIT}", num_outputs=5, image_shape=(3, 160, 160))
    assert isinstance(network, TimmNetwork)
    load_timm_weights(network, tensors, arch=f"timm:{VIT}", path=tmp_path / "vit.safetensors")
    peer: Any = timm.create_model(VIT, num_classes=7).eval()
    peer.load_state_dict(tensors)
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        expected = peer.forward_head(peer.forward_features(images), pre_logits=True)
        assert torch.allclose(network.eval().features(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"layer2.0.conv1.weight": None}, "it lacks layer2.0.conv1.weight"),
        ({"layer2.0.conv1.weight": torch.ones(1)}, "does not fit -a timm:"),
        ({"layer2.0.conv1.weight": torch.full((1,), torch.nan)}, "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(set_dir: Path, tmp_path: Path, changes: Any, expected: str) -> None:
    weights_file(RESNET, tmp_path / "w.safetensors", **changes)
    with refused() as messages:
        trained(set_dir, tmp_path / "run", arch=ARCH, pretrained_model=tmp_path / "w.safetensors")
    assert expected in messages[0] and "w.safetensors" in messages[0] and "\n" not in messages[0]


def test_a_damaged_file_of_weights_is_refused(set_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    with refused() as messages:
        trained(set_dir, tmp_path / "run", arch=ARCH, pretrained_model=tmp_path / "w.safetensors")
    assert "w.safetensors is damaged" in messages[0]


def test_the_head_alone_learns_on_features_that_are_computed_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    weights_file(RESNET, tmp_path / "w.pth")
    passes: list[int] = []

    def counted(network: Network, samples: Samples, normalisation: Normalisation, rank: Rank) -> torch.Tensor:
        passes.append(len(samples))
        return computed_features(network, samples, normalisation, rank)

    monkeypatch.setattr(kept_features, "computed_features", counted)
    told: dict[str, Any] = {"arch": ARCH, "pretrained_model": tmp_path / "w.pth", "tune": "head", "epochs": 3}
    result, checkpoint = trained(set_dir, tmp_path / "a", **told)
    assert sorted(passes) == [6, 30, 40]
    again, _ = trained(set_dir, tmp_path / "b", **told, loss_type="LDAM", train_rule="DRW")
    assert sorted(passes) == [6, 30, 40], "the next training finds them"
    assert again["splits"] != result["splits"]
    # What the checkpoint says of the images is what the training measured on the features.
    options = tiny_options(TrainOptions, arch=ARCH, resume=checkpoint, evaluate=True)
    evaluated = run_evaluation(options, paths_of(set_dir, tmp_path / "c"), ALONE)
    held_out = {split: scores for split, scores in result["splits"].items() if split != TRAIN}
    assert evaluated["splits"].keys() == held_out.keys()
    for split, scores in held_out.items():
        # Features are computed with folded batch norms, an evaluation is not: they differ in the last digits.
        for name in ("loss", "expected_calibration_error"):
            assert evaluated["splits"][split].pop(name) == pytest.approx(scores.pop(name), rel=1e-5)
        for name, sums in scores.pop("totals").items():
            assert evaluated["splits"][split]["totals"].pop(name) == pytest.approx(sums, rel=1e-5), name
        assert evaluated["splits"][split].pop("totals") == {}
        assert evaluated["splits"][split] == scores
    # The backbone is the file's.
    tensors = load_checkpoint(checkpoint).state_dict
    fresh = build_checked_model(ARCH, num_outputs=3, image_shape=(1, 8, 8))
    assert isinstance(fresh, TimmNetwork)
    content = checkpoint_content(tmp_path / "w.pth")
    load_timm_weights(fresh, tensors_in(content, path=tmp_path), arch=ARCH, path=tmp_path)
    for name, tensor in fresh.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[f"backbone.{name}"]), name
    # Damaged features are computed again.
    for file in set_dir.glob("features/*/*/*.parquet"):
        file.write_bytes(file.read_bytes()[:-3])
    trained(set_dir, tmp_path / "d", **told)
    assert len(passes) == 6


def test_a_built_in_network_is_tuned_from_a_checkpoint(set_dir: Path, tmp_path: Path) -> None:
    _, start = trained(set_dir, tmp_path / "start")
    before = weights_in(start)

    def changed(tune: str) -> set[str]:
        root = tmp_path / tune
        _, checkpoint = trained(set_dir, root, pretrained_model=start, tune=tune)
        after = weights_in(checkpoint)
        return {name for name in before if not torch.equal(before[name], after[name])}

    assert changed("head") == {"fc.weight", "fc.bias"}
    last = changed("last_2")
    assert {name.partition(".")[0] for name in last} == {"layer3", "fc"}
    assert {name.split(".")[1] for name in last if name.startswith("layer3")} == {"1", "2"}
    assert any("running_mean" in name for name in last), "the batch norm of what learns follows its batches"


@pytest.mark.parametrize(
    ("options_type", "options", "expected"),
    [
        (TrainOptions, {"tune": "head"}, "--pretrained_model"),
        (TrainOptions, {"tune": "last_0"}, "--tune"),
        (TrainSemiOptions, {"tune": "head", "resume": __file__, "semi_method": "fixmatch"}, "new views in every step"),
    ],
)
def test_what_cannot_be_tuned_is_refused(options_type: type[Any], options: dict[str, Any], expected: str) -> None:
    with refused() as messages:
        resolve_options(options_type, {"dataset": "digits", **options}, is_prepared=True)
    assert expected in messages[0]


def test_more_blocks_than_there_are_are_refused() -> None:
    network = build_checked_model(f"timm:{VIT}", num_outputs=5, image_shape=(3, 32, 32))
    with refused() as messages:
        learn_last_blocks(network, 50)
    assert messages[0].startswith("--tune last_50: the network has ")
    learn_last_blocks(network, 1)
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {".".join(name.split(".")[:3]) for name in learned if "blocks" in name} == {"backbone.blocks.5"}
    assert "backbone.norm.weight" in learned and "fc.weight" in learned and "backbone.pos_embed" not in learned
