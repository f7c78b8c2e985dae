"""Checkpoints of the published code, written here in its layout: they evaluate, label and resume, or say what to do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.conf.base.files import content_hash
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.loader import load_split
from longtail.data.manifest import Manifest, read_manifest
from longtail.models.build import build_model
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.checkpoints import load_checkpoint, load_weights
from longtail.training.command import main
from longtail.training.foreign_checkpoints import assumption, set_description
from longtail.training.inference import infer, load_classifier_checkpoint
from longtail.training.run import run_training
from longtail.training.set_options import options_with_set
from tests.prepared_set import write_manifest
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_set(tmp_path_factory.mktemp("foreign") / "set")


@pytest.fixture(scope="module")
def runs(set_dir: Path) -> dict[str, Path]:
    """Checkpoints of longtail, by what was learned."""
    jobs = {
        "CE": tiny_options(TrainOptions, epochs=6),
        "LDAM": tiny_options(TrainOptions, epochs=6, loss_type="LDAM"),
        "rotation": tiny_options(PretrainRotOptions),
        "moco": tiny_options(PretrainMocoOptions, queue_size=16),
    }
    for name, options in jobs.items():
        run_training(options, paths_of(set_dir, set_dir.parent / name), ALONE, attempt=1)
    return {name: set_dir.parent / name / "ckpt.pth.tar" for name in jobs}


def write_published(path: Path, tensors: dict[str, Tensor], *, prefix: str = "module.", **changes: Any) -> Path:
    """A checkpoint as the published scripts save it: with the data-parallel prefix, and the accuracy as a tensor."""
    named = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    content = {"epoch": 6, "arch": "resnet20", "state_dict": named, "best_acc1": torch.tensor(71.5), "optimizer": None}
    torch.save({**content, **changes}, path)
    return path


def published(runs: dict[str, Path], name: str, path: Path, *, prefix: str = "module.") -> Path:
    content = torch.load(runs[name], weights_only=True)
    return write_published(path, content["state_dict"], prefix=prefix, optimizer=content["optimizer"])


def evaluated(set_dir: Path, checkpoint: Path, **options: Any) -> dict[str, Any]:
    chosen = tiny_options(TrainOptions, resume=checkpoint, evaluate=True, **options)
    return run_evaluation(chosen, paths_of(set_dir, set_dir.parent / "unused"), ALONE)


@pytest.mark.parametrize(("name", "options"), [("CE", {}), ("LDAM", {}), ("LDAM", {"loss_type": "LDAM"})])
def test_evaluation_gives_the_scores_of_the_run_with_and_without_the_loss(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    own = evaluated(set_dir, runs[name], **options)["splits"][TEST]
    theirs = evaluated(set_dir, published(runs, name, tmp_path / "c"), **options)["splits"][TEST]
    assert theirs["confusion"] == own["confusion"] and own["accuracy"] > 0.5
    assert theirs["totals"]["confidence_sum"] == pytest.approx(own["totals"]["confidence_sum"], rel=1e-5)


@pytest.mark.parametrize("name", ["CE", "LDAM"])
def test_inference_gives_the_logits_of_the_run(set_dir: Path, runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    manifest = read_manifest(set_dir)
    images = load_split(set_dir, TEST, manifest).images
    theirs, own = published(runs, name, tmp_path / "c"), runs[name]
    found = infer(theirs, content_hash(theirs), images, batch_size=32, of_set=set_description(manifest)).logits
    expected = infer(own, content_hash(own), images, batch_size=32).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def manifest_of(tmp_path: Path, dataset: str, num_classes: int = 10) -> Manifest:
    counts = {"train": [30] * num_classes, "test": [5] * num_classes}
    channels: dict[str, Any] = {"channel_mean": [0.1] * 3, "channel_std": [0.2] * 3}
    return write_manifest(tmp_path, counts, image_shape=(32, 32, 3), dataset=dataset, **channels)


@pytest.mark.parametrize(
    ("dataset", "mean", "std"),
    [
        ("cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("svhn", (0.5,) * 3, (0.5,) * 3),
        ("fashion_mnist", (0.1,) * 3, (0.2,) * 3),
    ],
)
def test_inputs_are_normalised_by_the_constants_of_the_data_set_or_else_by_its_images(
    tmp_path: Path, dataset: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    of_set = set_description(manifest_of(tmp_path, dataset))
    tensors = build_model("resnet20", num_classes=10, in_channels=3, head="cosine").state_dict()
    path = write_published(tmp_path / "c", tensors)
    metadata = load_classifier_checkpoint(path, of_set).metadata
    assert metadata is not None and (metadata.normalisation.mean, metadata.normalisation.std) == (mean, std)
    assert (metadata.arch, metadata.head, metadata.logit_scale) == ("resnet20", "cosine", 30)
    assert (metadata.rule_counts, metadata.image_shape) == ([30] * 10, (32, 32, 3))
    assert f"taken to be those of {dataset}, mean {mean[0]:.4g}, " in assumption(of_set, path=path)


def test_a_checkpoint_that_names_no_network_needs_one(tmp_path: Path) -> None:
    tensors = build_model("resnet20", num_classes=10, in_channels=3).state_dict()
    path = write_published(tmp_path / "c", tensors, arch="somebody's")
    of_set = set_description(manifest_of(tmp_path, "cifar10"))
    with refused() as messages:
        load_classifier_checkpoint(path, of_set)
    assert messages[0] == f"{path} does not say which network it is of: name it with -a, as -a resnet32"
    assert load_classifier_checkpoint(path, of_set, "resnet20").arch == "resnet20"


USE_BACKBONE = "to start a training from its backbone, give it as --pretrained_model"


@pytest.mark.parametrize("name", ["rotation", "moco"])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_pre_training_is_not_evaluated(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path, name: str, foreign: bool
) -> None:
    prefix = "module.encoder_q." if name == "moco" else "module."
    path = published(runs, name, tmp_path / "c", prefix=prefix) if foreign else runs[name]
    for attempt in (
        lambda: evaluated(set_dir, path),
        lambda: load_classifier_checkpoint(path, set_description(read_manifest(set_dir))),
        lambda: resumed(set_dir, tmp_path, path),
    ):
        with refused() as messages:
            attempt()
        assert str(path) in messages[0] and messages[0].endswith(USE_BACKBONE)


def resumed(set_dir: Path, tmp_path: Path, checkpoint: Path, **options: Any) -> dict[str, Any]:
    chosen = tiny_options(TrainOptions, resume=checkpoint, epochs=7, **options)
    return run_training(chosen, paths_of(set_dir, tmp_path / "resumed"), ALONE, attempt=1)


def test_a_training_goes_on_from_it(set_dir: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    assert resumed(set_dir, tmp_path, published(runs, "CE", tmp_path / "c"))["epoch"] == 7


@pytest.mark.parametrize(
    ("name", "loss_type", "said"),
    [
        ("LDAM", "CE", "has a normalised classifier, which gives cosines: add --loss_type LDAM"),
        ("CE", "LDAM", "has a linear classifier, LDAM learns a normalised one: choose another --loss_type"),
    ],
)
def test_a_training_on_another_kind_of_classifier_names_the_loss(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path, name: str, loss_type: str, said: str
) -> None:
    path = published(runs, name, tmp_path / "c")
    with refused() as messages:
        resumed(set_dir, tmp_path, path, loss_type=loss_type)
    assert messages[0] == f"{path} {said}"


def test_another_number_of_classes_names_the_data_set(set_dir: Path, tmp_path: Path) -> None:
    tensors = build_model("resnet20", num_classes=10, in_channels=1).state_dict()
    path = write_published(tmp_path / "c", tensors)
    with refused() as messages:
        evaluated(set_dir, path)
    assert messages[0] == (
        f"{path} is for 10 classes, the prepared set has 3: name the data set that it was trained on with --dataset"
    )


def test_the_published_names_of_the_network_for_large_images_load(tmp_path: Path) -> None:
    """Its first convolution has two names, its shortcuts are not called downsample, and its head is called linear."""
    source = build_model("resnet50", num_classes=5, in_channels=3)
    named = {
        name.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): tensor
        for name, tensor in source.state_dict().items()
    }
    path = write_published(tmp_path / "c", {**named, "layer_one.weight": named["conv1.weight"]}, arch="resnet50")
    model = build_model("resnet50", num_classes=5, in_channels=3)
    assert load_weights(model, load_checkpoint(path), path=path) == len(source.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), source.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("key", ["state_dict", "state_dict_best"])
def test_both_networks_of_the_published_imagenet_code_are_one(tmp_path: Path, key: str) -> None:
    source = build_model("resnet10", num_classes=5, in_channels=3).state_dict()
    parts: dict[str, dict[str, Tensor]] = {"feat_model": {}, "classifier": {}}
    for name, tensor in source.items():
        parts["classifier" if name.startswith("fc.") else "feat_model"][f"module.{name}"] = tensor
    path = tmp_path / "final_model_checkpoint.pth"
    torch.save({"epoch": 89, key: parts, "best_acc": 0.4, "centroids": None}, path)
    found = load_checkpoint(path).state_dict
    assert found.keys() == source.keys() and all(torch.equal(found[name], source[name]) for name in source)


def test_train_semi_evaluates_and_asks_for_nothing_else(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Through the bare command, which has no pseudo-labels and no unlabeled part to name."""
    monkeypatch.chdir(tmp_path)
    path = published(runs, "CE", tmp_path / "c")
    assert not TrainSemiOptions(dataset="digits", resume=path, evaluate=True).needs_pseudo_labels
    expected = evaluated(set_dir, path)["splits"][TEST]["accuracy"]
    arguments = f"--dataset digits --resume {path} -e".split()
    for job in ("train_semi", "train"):
        main([job, "--set_dir", str(set_dir), *arguments])
        said = capsys.readouterr().out
        assert f"'accuracy': {expected}" in said and "run:" not in said
    assert [file.name for file in tmp_path.iterdir()] == ["c"], "nothing is trained or written"


def test_a_card_of_another_pre_training_is_told_by_its_phase_whatever_its_outputs(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """Four classes would load the weights of four rotations."""
    content = torch.load(runs["CE"], weights_only=True)
    ours = json.loads(content["longtail"])
    ours["model_card"]["phase"] = "pretrain_rot"
    torch.save({**content, "longtail": json.dumps(ours)}, tmp_path / "c")
    with refused() as messages:
        resumed(set_dir, tmp_path, tmp_path / "c")
    assert messages[0] == f"{tmp_path / 'c'} was written by pretrain_rot, which has no classifier: {USE_BACKBONE}"


def test_a_pre_training_does_not_go_on_from_a_classifier(set_dir: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    options = tiny_options(PretrainRotOptions, resume=runs["CE"], epochs=7)
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert messages[0] == (
        f"{runs['CE']} was written by train, and pretrain_rot can only resume from its own checkpoints: leave it out"
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CE", PretrainRotOptions(dataset="digits", arch="resnet20")),
        ("CE", PretrainMocoOptions(dataset="digits", arch="resnet20", queue_size=16)),
        ("rotation", PretrainMocoOptions(dataset="digits", arch="resnet20", queue_size=16)),
        ("moco", PretrainRotOptions(dataset="digits", arch="resnet20")),
    ],
)
def test_a_pre_training_does_not_go_on_from_what_another_training_of_the_published_code_wrote(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path, name: str, options: PretrainRotOptions | PretrainMocoOptions
) -> None:
    path = published(runs, name, tmp_path / "c", prefix="module.encoder_q." if name == "moco" else "module.")
    with refused() as messages:
        run_training(
            options.model_copy(update={"resume": path, "epochs": 7}),
            paths_of(set_dir, tmp_path / "run"),
            ALONE,
            attempt=1,
        )
    assert (
        messages[0] == f"{path} is of another training than {options.phase}, which cannot go on from it: leave it out"
    )


def test_a_classifier_that_is_kept_is_of_the_set_s_classes(
    set_dir: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    path = published(runs, "rotation", tmp_path / "c")
    options = tiny_options(TrainClassifierOptions, resume=path, method="LWS")
    with refused() as messages:
        run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert messages[0].startswith(f"{path} has 4 outputs, as rotation prediction has, and not 3: ")


def test_without_a_data_set_it_is_not_taken_for_one_of_the_default_set(runs: dict[str, Path], tmp_path: Path) -> None:
    path = published(runs, "CE", tmp_path / "c")
    for options_type in (TrainOptions, TrainSemiOptions, EvaluateOptions, GenPseudolabelsOptions):
        with refused() as messages:
            continued(options_type, {"resume": str(path)})
        assert messages[0] == f"{path} does not say what it was trained on: name the data set with --dataset"


@pytest.mark.parametrize("options_type", [TrainOptions, TrainSemiOptions])
def test_its_network_is_taken_over_by_a_training(
    runs: dict[str, Path], tmp_path: Path, options_type: type[TrainOptions]
) -> None:
    path = published(runs, "CE", tmp_path / "c")
    given = {"resume": str(path), "dataset": "cifar10", "evaluate": True}
    assert continued(options_type, given).options.arch == "resnet20"
    assert continued(options_type, {**given, "arch": "resnet44"}).options.arch == "resnet44"


def test_inference_with_another_network_than_it_names_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    path = published(runs, "CE", tmp_path / "c")
    with refused() as messages:
        load_classifier_checkpoint(path, set_description(manifest_of(tmp_path, "cifar10", num_classes=3)), "resnet44")
    assert messages[0] == f"{path} is a resnet20, not a resnet44: give -a resnet20"


def test_a_backbone_of_another_data_set_than_the_default_one_needs_its_name(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    given = {"pretrained_model": str(runs["rotation"])}
    assert continued(TrainOptions, given).options.dataset == "digits"
    content = torch.load(runs["rotation"], weights_only=True)
    ours = json.loads(content["longtail"])
    ours["model_card"]["options"]["dataset"] = "cifar10"
    path = tmp_path / "c"
    torch.save({**content, "longtail": json.dumps(ours)}, path)
    with refused() as messages:
        continued(TrainOptions, {"pretrained_model": str(path)})
    assert messages[0] == f"{path} was trained on cifar10: name that data set, or another, with --dataset"
    assert continued(TrainOptions, {"pretrained_model": str(path), "dataset": "svhn"}).options.dataset == "svhn"


def test_a_backbone_of_other_code_needs_the_name_of_a_data_set(tmp_path: Path, runs: dict[str, Path]) -> None:
    """Not the digits, only because they are the default."""
    path = published(runs, "CE", tmp_path / "c")
    with refused() as messages:
        continued(TrainOptions, {"pretrained_model": str(path)})
    assert messages[0] == f"{path} does not say what it was trained on: name the data set to train on with --dataset"
    assert continued(TrainOptions, {"pretrained_model": str(path), "dataset": "svhn"}).options.dataset == "svhn"


def test_without_spark_too_a_checkpoint_without_names_is_said_to_go_by_position(
    tmp_path: Path, runs: dict[str, Path], set_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published(runs, "CE", tmp_path / "c")
    options_with_set(TrainOptions, {"resume": str(path)}, read_manifest(set_dir), set_dir=set_dir)
    assert capsys.readouterr().out == f"{path} has no class names: its outputs are taken in the order of the classes\n"


def test_the_description_of_a_set_is_hashable_so_that_a_worker_keeps_its_network(set_dir: Path) -> None:
    manifest = read_manifest(set_dir)
    assert hash(set_description(manifest)) == hash(set_description(manifest))
    assert np.isclose(set_description(manifest).normalisation.mean, manifest.channel_mean).all()
