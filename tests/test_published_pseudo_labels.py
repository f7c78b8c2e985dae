"""Pseudo-labels in the published layout: matched by position in a published source, by ids in any other."""

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtail.conf.options.data import DataOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.data.contract import UNLABELED_FIRST_ID
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.published_pseudo_labels import load_published_pseudo_labels, write_published_pseudo_labels
from longtail.data.sources.base import Located, Shard
from longtail.spark_jobs.steps.published_layout import check_source_is_named, ids_of_published_source
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run_directory import run_paths
from tests.prepared_set import write_manifest
from tests.refusals import refused
from tests.tiny_set import tiny_options, unlabeled_ids, write_tiny_set


def write_pickle(path: Path, **content: Any) -> Path:
    path.write_bytes(pickle.dumps({"prediction_model": "resnet32", **content}))
    return path


def manifest_of(tmp_path: Path, **changes: Any) -> Manifest:
    return dataclasses.replace(write_manifest(tmp_path, {"train": [1, 1, 1]}, image_shape=(8, 8, 1)), **changes)


@pytest.mark.parametrize("first_id", [500, UNLABELED_FIRST_ID])
def test_of_labels_for_a_published_source_those_of_the_set_s_images_are_taken(tmp_path: Path, first_id: int) -> None:
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.arange(10, 20), ground_truth=np.arange(10))
    manifest = manifest_of(tmp_path, unlabeled_ids=(first_id, 10))
    labels = load_published_pseudo_labels(file, first_id + np.array([0, 3, 9]), manifest)
    assert labels.tolist() == [10, 13, 19] and labels.dtype == np.int64


def test_a_file_of_a_published_source_serves_every_selection_from_it(tmp_path: Path) -> None:
    """As written here, it has what the published loader reads, and the names of the classes."""
    manifest = manifest_of(tmp_path, unlabeled_ids=(500, 6))
    ids, labels = 500 + np.array([5, 0, 3, 1, 4, 2]), np.array([2, 0, 1, 0, 2, 1])
    write_published_pseudo_labels(tmp_path / "p.pickle", ids, labels, manifest, prediction_model="net")
    content = pickle.loads((tmp_path / "p.pickle").read_bytes())
    assert set(content) == {"extrapolated_targets", "prediction_model", "longtail_class_names"}
    assert (
        content["prediction_model"] == "net"
        and bytes(content["longtail_class_names"]) == b'["class 0", "class 1", "class 2"]'
    )
    assert content["extrapolated_targets"].tolist() == [0, 0, 1, 1, 2, 2]
    for chosen in ([0, 2, 5], [1], [0, 1, 2, 3, 4, 5]):
        found = load_published_pseudo_labels(tmp_path / "p.pickle", 500 + np.array(chosen), manifest)
        assert found.tolist() == [[0, 0, 1, 1, 2, 2][i] for i in chosen]


@pytest.mark.parametrize("length", [3, 7999, 8001, 50000])
def test_another_number_of_labels_than_images_of_the_source_is_refused(tmp_path: Path, length: int) -> None:
    """3 is that of the unlabeled images, as a file that is laid out for one --rand_number has it."""
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.zeros(length, np.int64))
    with refused() as messages:
        load_published_pseudo_labels(file, np.array([500, 502, 504]), manifest_of(tmp_path, unlabeled_ids=(500, 8000)))
    assert f"{file} has {length} pseudo-labels, the unlabeled images come from a source of 8000" in messages[0]


def written_for_own_images(tmp_path: Path, *, checksum: str = "a1", ids: tuple[int, ...] = (9, 5, 7)) -> Path:
    manifest = manifest_of(tmp_path, checksums={"unlabeled": checksum})
    file = tmp_path / "own.pickle"
    write_published_pseudo_labels(file, np.array(ids), np.array([1, 2, 0]), manifest, prediction_model="net")
    return file


def test_labels_of_other_images_are_matched_by_their_ids(tmp_path: Path) -> None:
    file = written_for_own_images(tmp_path)
    manifest = manifest_of(tmp_path, checksums={"unlabeled": "a1"})
    assert load_published_pseudo_labels(file, np.array([5, 7, 9]), manifest).tolist() == [2, 0, 1]
    assert load_published_pseudo_labels(file, np.array([9, 5, 7]), manifest).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("checksum", "ids"),
    [("b2", (9, 5, 7)), ("a1", (9, 5, 8)), ("", (9, 5, 7))],
    ids=["another seed", "other ids", "another program"],
)
def test_labels_of_another_set_are_refused(tmp_path: Path, checksum: str, ids: tuple[int, ...]) -> None:
    file = written_for_own_images(tmp_path, checksum=checksum, ids=ids)
    with refused() as messages:
        load_published_pseudo_labels(file, np.array([5, 7, 9]), manifest_of(tmp_path, checksums={"unlabeled": "a1"}))
    assert f"{file} labels other images than the unlabeled part of this set" in messages[0]


@pytest.mark.parametrize("ids", [[5, 7], [5, 7, 7], [5.0, 7.0, 9.0]])
def test_ids_that_do_not_fit_the_labels_are_refused(tmp_path: Path, ids: list[float]) -> None:
    file = written_for_own_images(tmp_path)
    own = {**pickle.loads(file.read_bytes()), "longtail_ids": np.array(ids)}
    file.write_bytes(pickle.dumps(own))
    with refused() as messages:
        load_published_pseudo_labels(file, np.array([5, 7, 9]), manifest_of(tmp_path, checksums={"unlabeled": "a1"}))
    assert f"{file} has 3 pseudo-labels and not as many different ids" in messages[0]


@pytest.mark.parametrize("unlabeled_ids", [None, (5, 3)], ids=["own images", "a published source"])
@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["class 1", "class 0", "class 2"], "has the classes of this set in another order (class 0 is 'class 1' there"),
        (["class 0", "class 1", "other"], "is for other classes than this set: it lacks class 2 and has other instead"),
        (["class 0", "class 1"], "is for other classes than this set: it lacks class 2"),
    ],
    ids=["renamed", "others", "fewer"],
)
def test_labels_for_other_classes_are_refused_whatever_the_images(
    tmp_path: Path, unlabeled_ids: tuple[int, int] | None, names: list[str], named: str
) -> None:
    """The unlabeled images do not change when the folder of a class gets another name."""
    manifest = manifest_of(tmp_path, checksums={"unlabeled": "a1"}, unlabeled_ids=unlabeled_ids)
    file, ids = tmp_path / "p.pickle", np.array([5, 6, 7])
    as_written = dataclasses.replace(manifest, class_names=names)
    write_published_pseudo_labels(file, ids, np.array([1, 0, 1]), as_written, prediction_model="net")
    with refused() as messages:
        load_published_pseudo_labels(file, ids, manifest)
    assert messages[0].startswith(f"{file} {named}")
    assert load_published_pseudo_labels(file, ids, as_written).tolist() == [1, 0, 1]


@pytest.mark.parametrize("content", [b"", b"[", b"[1]", b"{}", b"\xff", b"[" * 100_000])
def test_damaged_names_of_classes_are_refused(tmp_path: Path, content: bytes) -> None:
    names = np.frombuffer(content, np.uint8)
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.array([1]), longtail_class_names=names)
    with refused() as messages:
        load_published_pseudo_labels(file, np.array([5]), manifest_of(tmp_path, unlabeled_ids=(5, 1)))
    assert f"{file} has damaged names of its classes" in messages[0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"extrapolated_targets": np.array([1, 2, 0])}, "does not say which images and classes its labels belong to"),
        ({"extrapolated_targets": np.array([0.5])}, "has extrapolated_targets of float64 (1,)"),
        ({"extrapolated_targets": np.array([[1]])}, "has extrapolated_targets of int64 (1, 1)"),
        ({"labels": [1]}, "has no extrapolated_targets: it has labels, prediction_model"),
        ({"extrapolated_targets": os.system}, "it names posix.system"),
    ],
    ids=["no ids", "floats", "a matrix", "no labels", "hostile"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, content: dict[str, Any], named: str) -> None:
    file = write_pickle(tmp_path / "p.pickle", **content)
    with refused() as messages:
        load_published_pseudo_labels(file, np.array([5, 7, 9]), manifest_of(tmp_path))
    assert str(file) in messages[0] and named in messages[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dataset": "cifar10"}, (500, 30)),
        ({"dataset": "cifar10", "num_classes": 2}, None),
        ({"dataset": "svhn", "unlabeled": "svhn_extra"}, (UNLABELED_FIRST_ID, 70)),
        ({"dataset": "cifar10", "unlabeled": __file__}, (UNLABELED_FIRST_ID, 70)),
        ({"dataset": "cifar10", "unlabeled": str(Path(__file__).parent)}, None),
        ({"dataset": "folder", "path": Path(__file__).parent}, None),
        ({"imb_factor_unlabel": 1.0, "relevance": 0.5, "irrelevant_dataset": "mnist"}, None),
    ],
    ids=["training images", "first classes", "extra images", "a file", "a directory", "own images", "two sources"],
)
def test_published_sources_are_data_sets_extra_images_and_selections(
    options: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    shape = {"class_names": ["a", "b"], "image_shape": (8, 8, 1), "origin": "a test"}
    base = Located(shards=[Shard(Path("a"), "test", 0, 0), Shard(Path("b"), "train", 0, 500)], **shape)
    others = Located(shards=[Shard(Path("c"), "unlabeled", 0, UNLABELED_FIRST_ID)], **shape)
    found = {("train", 0): 20, ("train", 1): 10, ("test", 0): 500, ("unlabeled", 0): 69, ("unlabeled", -1): 1}
    assert ids_of_published_source(DataOptions(**options), [base, others], found) == expected


def test_a_checkpoint_does_not_choose_the_source_that_is_read(tmp_path: Path) -> None:
    manifest_of(tmp_path, unlabeled_ids=(500, 10)).write(tmp_path)
    options = GenPseudolabelsOptions(dataset="cifar10", resume=Path(__file__), output_filename="p.pickle")
    with refused() as messages:
        check_source_is_named(options, tmp_path)
    assert messages[0].endswith("name the data set with --dataset cifar10")
    check_source_is_named(options, None)
    check_source_is_named(options.model_copy(update={"output_filename": "p.parquet"}), tmp_path)
    manifest_of(tmp_path).write(tmp_path)
    check_source_is_named(options, tmp_path)


def write_for_tiny_set(file: Path, set_dir: Path, targets: list[int]) -> Path:
    ids = np.array(unlabeled_ids())
    write_published_pseudo_labels(file, ids, np.array(targets), read_manifest(set_dir), prediction_model="net")
    return file


def test_a_training_takes_them_as_it_takes_a_table(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    targets = [i % 3 for i in range(len(unlabeled_ids()))]
    file = write_for_tiny_set(tmp_path / "p.pickle", set_dir, targets)
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, pseudo_labels=file)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), torch.device("cpu"), pseudo_labels=file)
    assert task.data.train.ids[-len(targets) :].tolist() == unlabeled_ids()
    assert task.data.train.labels[-len(targets) :].tolist() == targets


def test_a_label_of_no_class_is_refused(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    file = write_for_tiny_set(tmp_path / "p.pickle", set_dir, [3] * len(unlabeled_ids()))
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, pseudo_labels=file)
    with refused() as messages:
        semi_supervised_task(options, set_dir, read_manifest(set_dir), torch.device("cpu"), pseudo_labels=file)
    assert f"{file} has labels outside 0..2" in messages[0]


def test_another_content_makes_another_run(tmp_path: Path) -> None:
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, runs_dir=tmp_path)
    set_dir, names = write_tiny_set(tmp_path / "set"), set()
    for name, targets in (("a", [0, 1]), ("b", [0, 2]), ("c", [0, 1])):
        file = write_pickle(tmp_path / f"{name}.pickle", extrapolated_targets=np.array(targets))
        names.add(run_paths(options, set_dir=set_dir, pseudo_labels=file).run_dir)
    assert len(names) == 2
