"""Networks and losses of a user's own package: found, checked, trained, and never imported because of a checkpoint."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.base.files import content_hash
from longtail.conf.options.fixmatch import BALANCING
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions
from longtail.conf.options.pretraining import PRETRAININGS, PretrainMocoOptions
from longtail.conf.options.semi import SEMI_METHODS, TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import LossOptions, TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.pseudo_label_table import load_pseudo_labels
from longtail.models.build import build_checked_model, build_model
from longtail.models.heads import CosineHead
from longtail.spark_jobs.steps.evaluation import evaluate_checkpoint
from longtail.spark_jobs.steps.labelling import gen_pseudolabels
from longtail.spark_jobs.steps.training import train_run
from longtail.streaming.tables.query_rows import read_query_rows
from longtail.training import command
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.inference import infer, load_classifier
from longtail.training.losses import build_loss
from longtail.training.method import method_of
from longtail.training.run import run_training
from longtail.training.semi.fixmatch_base import load_method
from tests.conftest import RunJob
from tests.image_tree import write_class
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, unlabeled_ids, weights_in

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LAST = "ckpt.pth.tar"
NETWORK, LOSS = "ours.nets:small", "ours.losses:squared"
NETS = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": nn.Conv2d(in_channels, 5, 3)})
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, num_classes)

    def features(self, images):
        return self.norm(self.stem["conv1"](images)).relu().mean(dim=(2, 3))

    def forward(self, images):
        return self.fc(self.features(images))


def small(*, num_classes, in_channels):
    return Small(num_classes, in_channels)


def broken(*, num_classes, in_channels):
    raise RuntimeError("no such size")


def linear(*, num_classes, in_channels):
    return nn.Linear(in_channels, num_classes)


class Unpooled(Small):
    def features(self, images):
        return self.stem["conv1"](images)


def unpooled(*, num_classes, in_channels):
    return Unpooled(num_classes, in_channels)


def one_class_more(*, num_classes, in_channels):
    return Small(num_classes + 1, in_channels)


class Layers(Small):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.fc = nn.Sequential(nn.Linear(5, num_classes))


def layers(*, num_classes, in_channels):
    return Layers(num_classes, in_channels)


NUMBER = 3
"""
LOSSES = """
import torch


def squared(logits, targets, *, class_counts):
    wrong = 1 - logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
    return wrong**2 * (class_counts.max() / class_counts)[targets]


def mean(logits, targets, *, class_counts):
    return squared(logits, targets, class_counts=class_counts).mean()


def constant(logits, targets, *, class_counts):
    return torch.ones(len(logits))


def without_counts(logits, targets):
    return logits.sum(dim=1)
"""
QUERY = """
from pyspark.sql import functions as F


def table(events):
    return events.where("kind = 'class' AND split = 'test'").groupBy("run").agg(F.sum("support").alias("images"))


def alerts(events):
    cats = events.where("kind = 'class' AND split = 'test' AND class_name = 'cat'")
    return cats.select("run", F.lit("the cats have been scored").alias("message"))
"""
EXPERIMENT = f"""
title: My loss and cross-entropy on my images
seeds: [0, 1]
options: {{dataset: folder, path: images, imb_type: natural, image_size: 16, arch: {NETWORK}, epochs: 1}}
axes:
  loss: {{CE: {{}}, ours: {{loss_type: {LOSS}}}}}
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a package `ours` that has nothing to do with longtail."""
    directory = tmp_path_factory.mktemp("package")
    (directory / "ours").mkdir()
    (directory / "ours" / "__init__.py").write_text("")
    (directory / "ours" / "nets.py").write_text(NETS)
    (directory / "ours" / "losses.py").write_text(LOSSES)
    (directory / "ours" / "damaged.py").write_text("raise ValueError('not today')")
    return directory


@pytest.fixture(scope="module")
def importable(package: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ours"]:
        del sys.modules[name]


def own_options(**changes: Any) -> TrainOptions:
    return tiny_options(TrainOptions, **{"arch": NETWORK, "loss_type": LOSS, **changes})


@pytest.fixture(scope="module")
def checkpoint(set_dir: Path, importable: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("own") / "run"
    run_training(own_options(), paths_of(set_dir, run_dir), ALONE, attempt=1)
    return run_dir / LAST


@pytest.fixture
def forgotten(package: Path) -> Iterator[None]:
    """The package can be imported, but is not."""
    own = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ours"}
    for name in own:
        del sys.modules[name]
    load_classifier.cache_clear()
    yield
    assert not {name for name in sys.modules if name.startswith("ours.")}, "a name in a checkpoint was imported"
    sys.modules.update(own)


def images(number: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, 8, 8, 1), dtype=np.uint8)


@pytest.mark.long
def test_a_package_of_the_user_s_own_has_data_a_network_a_loss_a_query_an_alert_and_an_experiment(
    job: RunJob, package: Path, tmp_path: Path
) -> None:
    """What needs no change of Longtail, all of it outside; tests/test_contributing.py adds the other kinds."""
    for label, name in enumerate(("ant", "bee", "cat")):
        write_class(tmp_path / "images" / name, 10, first_colour=1000 * label)
    (tmp_path / "cats.py").write_text(QUERY)
    (tmp_path / "options.yaml").write_text(f"arch: {NETWORK}\nloss_type: {LOSS}\nepochs: 1\nb: 16\nthreads: 1\n")
    (tmp_path / "losses.yaml").write_text(EXPERIMENT)

    done = job("prepare", "--dataset", "folder", "--path", "images", "--imb_type", "natural", "--image_size", 16)
    assert done.returncode == 0, done.stderr
    (set_dir,) = re.findall("^prepared set: (.+)$", done.stdout, re.MULTILINE)
    training = [sys.executable, "-m", "longtail.training", "train", "--set_dir", set_dir, "--config", "options.yaml"]
    path = f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    trained = subprocess.run(
        training, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert trained.returncode == 0, trained.stderr
    (run_dir,) = (tmp_path / "runs").glob("folder-small-train-squared-*")
    assert torch.load(run_dir / LAST, weights_only=True)["arch"] == NETWORK
    assert set(weights_in(run_dir / LAST)) >= {"stem.conv1.weight", "norm.running_mean", "fc.bias"}

    watched = job("monitor", "--once", "--query", "cats.py")
    assert watched.returncode == 0
    assert f"alert: {run_dir.name}: the cats have been scored (query cats)" in watched.stderr
    rows = read_query_rows(tmp_path / "runs" / "analytics", "cats").to_pylist()
    # Of 10 images of each class, --test_fraction 0.2.
    assert rows == [{"run": run_dir.name, "images": 6}]

    planned = job("experiment", "losses.yaml", "--dry_run")
    assert planned.returncode == 0 and "4 trials, 5 steps" in planned.stdout, planned.stderr


def test_without_the_package_the_command_line_is_refused(set_dir: Path) -> None:
    with refused() as messages:
        command.main(["train", "--set_dir", str(set_dir), "--loss_type", "theirs.losses:squared"])
    assert messages == [
        "--loss_type theirs.losses:squared: there is no module theirs; install it, or put its directory on PYTHONPATH"
    ]


def test_the_loss_is_the_user_s_with_the_class_counts_of_the_training(importable: None) -> None:
    loss = build_loss(LossOptions(loss_type=LOSS), [8, 2], CPU)
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)]])
    # Wrong by a half and by a quarter; the second class is four times rarer.
    assert loss(logits, torch.tensor([0, 1])).tolist() == pytest.approx([0.25, 4 / 16])


def test_a_training_goes_on_from_the_checkpoint_of_a_user_s_network(
    checkpoint: Path, set_dir: Path, tmp_path: Path
) -> None:
    result = run_training(
        own_options(epochs=2, resume=checkpoint), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1
    )
    assert result["epoch"] == 2


@pytest.mark.parametrize(
    ("options_type", "changes", "head"),
    [
        (TrainOptions, {"loss_type": "LDAM"}, {"fc.weight"}),
        (PretrainMocoOptions, {}, {"fc.0.weight", "fc.2.bias"}),
        (TrainSemiOptions, {"imb_factor_unlabel": 1.0, "semi_method": "fixmatch", "balancing": "ABC"}, {"fc.bias"}),
        (TrainSemiOptions, {"imb_factor_unlabel": 1.0, "semi_method": "fixmatch", "balancing": "DASO"}, {"fc.bias"}),
    ],
)
def test_every_method_takes_a_network_of_the_user_s(
    importable: None, set_dir: Path, tmp_path: Path, options_type: Any, changes: dict[str, Any], head: set[str]
) -> None:
    options = tiny_options(options_type, arch=NETWORK, **changes)
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert set(weights_in(tmp_path / "run" / LAST)) >= head


def test_a_new_classifier_is_trained_on_the_backbone_of_a_user_s_network(
    checkpoint: Path, set_dir: Path, tmp_path: Path
) -> None:
    options = tiny_options(TrainClassifierOptions, arch=NETWORK, resume=checkpoint)
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    before, after = weights_in(checkpoint), weights_in(tmp_path / "run" / LAST)
    assert torch.equal(before["stem.conv1.weight"], after["stem.conv1.weight"])
    assert not torch.equal(before["fc.weight"], after["fc.weight"])


def test_longtail_replaces_the_head_of_a_user_s_network(importable: None) -> None:
    network = build_model(NETWORK, num_classes=3, in_channels=1, head="cosine")
    assert isinstance(network.fc, CosineHead) and network.fc.weight.shape == (5, 3)


@pytest.mark.parametrize(
    ("arch", "head", "message"),
    [
        ("nowhere.nets:small", "linear", "-a nowhere.nets:small: there is no module nowhere"),
        ("ours.nowhere:small", "linear", "-a ours.nowhere:small: there is no module ours.nowhere"),
        ("ours.damaged:small", "linear", "importing ours.damaged fails: ValueError: not today"),
        ("ours.nets:huge", "linear", "-a ours.nets:huge: module ours.nets has no huge"),
        ("ours.nets:NUMBER", "linear", "-a ours.nets:NUMBER: NUMBER is not callable, but of type int"),
        ("ours.nets:broken", "linear", "-a ours.nets:broken: calling it fails: RuntimeError: no such size"),
        ("ours.nets:Small", "linear", None),
        ("ours.nets:linear", "linear", "returns a torch module with features(images) and a head fc, this one a Linear"),
        ("ours.nets:unpooled", "linear", "features(images) must return shape (2, D), it returned (2, 5, 6, 6)"),
        ("ours.nets:one_class_more", "linear", "the network must return shape (2, 3), it returned (2, 4)"),
        ("ours.nets:layers", "linear", "fc must be an nn.Linear, so that other heads can replace it"),
    ],
)
def test_what_is_wrong_with_a_network_is_told_in_one_line(
    importable: None, arch: str, head: str, message: str | None
) -> None:
    if message is None:  # a class is a factory too
        assert build_checked_model(arch, num_outputs=3, image_shape=(1, 8, 8), head=head)
        return
    with refused() as messages:
        build_checked_model(arch, num_outputs=3, image_shape=(1, 8, 8), head=head)
    assert message in messages[0] and arch in messages[0]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("nowhere:loss", "--loss_type nowhere:loss: there is no module nowhere"),
        ("ours.losses:cubed", "--loss_type ours.losses:cubed: module ours.losses has no cubed"),
        ("ours.losses:mean", "for logits (2, 3) it must return losses of shape (2,), it returned ()"),
        ("ours.losses:constant", "the losses do not depend on the logits, or have no gradient"),
        ("ours.losses:without_counts", "TypeError: without_counts() got an unexpected keyword argument 'class_counts'"),
    ],
)
def test_what_is_wrong_with_a_loss_is_told_in_one_line(importable: None, loss: str, message: str) -> None:
    with refused() as messages:
        build_loss(LossOptions(loss_type=loss), [3, 2, 1], CPU)
    assert message in messages[0] and loss in messages[0]


def test_inference_does_not_import_what_a_checkpoint_records(
    checkpoint: Path, importable: None, forgotten: None
) -> None:
    for given in (None, "resnet20", "ours.nets:Small"):
        with refused() as messages:
            infer(checkpoint, content_hash(checkpoint), images(), batch_size=3, arch=given)
        assert messages[0] == (
            f"{checkpoint} records -a {NETWORK}, code that is not Longtail's; it runs only if you give -a {NETWORK} "
            "yourself"
        )


def test_no_training_imports_what_a_checkpoint_records(
    checkpoint: Path, set_dir: Path, tmp_path: Path, importable: None, forgotten: None
) -> None:
    paths = paths_of(set_dir, tmp_path / "run")
    for options in (
        tiny_options(TrainOptions, resume=checkpoint),
        tiny_options(TrainOptions, pretrained_model=checkpoint),
        tiny_options(TrainClassifierOptions, resume=checkpoint),
    ):
        with refused() as messages:
            run_training(options, paths, ALONE, attempt=1)
        assert f"it runs only if you give -a {NETWORK} yourself" in messages[0]
    with refused() as messages:
        run_evaluation(tiny_options(TrainOptions, resume=checkpoint, evaluate=True), paths, ALONE)
    assert f"it runs only if you give -a {NETWORK} yourself" in messages[0]


def test_inference_runs_the_network_that_the_user_gives_again(checkpoint: Path) -> None:
    found = infer(checkpoint, content_hash(checkpoint), images(), batch_size=3, arch=NETWORK, with_features=True)
    assert found.logits.shape == (3, 3)
    assert found.features is not None and found.features.shape == (3, 5)


@pytest.mark.long
def test_ranks_and_partitions_of_spark_run_it_too(
    spark: SparkSession, package: Path, importable: None, set_dir: Path, tmp_path: Path
) -> None:
    # As `spark-submit --py-files` does; a directory on the PYTHONPATH of the workers does as well.
    for module in ("nets", "losses"):
        (tmp_path / f"shipped_{module}.py").write_text((package / "ours" / f"{module}.py").read_text())
        spark.sparkContext.addPyFile(str(tmp_path / f"shipped_{module}.py"))
    network, loss = "shipped_nets:small", "shipped_losses:squared"
    options = own_options(arch=network, loss_type=loss, runs_dir=tmp_path / "runs")
    run = train_run(spark, options, set_dir=set_dir, show_progress=False)
    wanted = {"resume": run.checkpoint, "output_dir": tmp_path / "out", "dataset": "digits"}
    table = gen_pseudolabels(spark, GenPseudolabelsOptions(arch=network, **wanted), set_dir=set_dir)
    assert load_pseudo_labels(table)[0].tolist() == unlabeled_ids()
    given = EvaluateOptions(arch=network, loss_type=loss, splits=TEST, **wanted)
    scores = evaluate_checkpoint(spark, given, set_dir=set_dir)[1]["splits"][TEST]
    assert scores["loss"] == pytest.approx(run.result["splits"][TEST]["loss"], rel=1e-5)
    for missing, option, name in (("arch", "-a", network), ("loss_type", "--loss_type", loss)):
        with pytest.raises(Exception, match=f"records {option} {name}, code that is not Longtail's"):
            evaluate_checkpoint(spark, given.model_copy(update={missing: None}), set_dir=set_dir)


def test_the_names_of_built_in_code_are_right(tmp_path: Path) -> None:
    pretraining = [tiny_options(options_type) for options_type in PRETRAININGS.values()]
    checkpoint = tmp_path / LAST
    checkpoint.touch()
    semi = [tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, semi_method=name) for name in SEMI_METHODS]
    supervised = [tiny_options(TrainOptions), tiny_options(TrainClassifierOptions, resume=checkpoint)]
    methods = {type(method_of(options)) for options in (*pretraining, *semi, *supervised)}
    assert len(methods) == len(PRETRAININGS) + len(SEMI_METHODS) + 2
    balancing = {load_method(name) for name in BALANCING}
    assert len(balancing) == len(BALANCING)
