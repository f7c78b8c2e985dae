"""The source of SVHN: MATLAB files, the digit 0 written as 10, the extra images, and the order of classes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark import cloudpickle
from pyspark.sql import SparkSession
from scipy.io import savemat

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.contract import ID, IMAGE, LABEL, SOURCE_SCHEMA, SPLIT, UNLABELED_FIRST_ID
from longtail.data.loader import load_hidden_labels
from longtail.data.manifest import read_manifest
from longtail.data.sources import svhn, svhn_extra
from longtail.data.sources.base import Shard
from longtail.spark_jobs.steps.prepare import prepare
from tests.refusals import refused
from tests.sources import in_directory

# Nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9"
NAMES = {TRAIN: "train_32x32.mat", TEST: "test_32x32.mat", UNLABELED: "extra_32x32.mat"}


def random_images(num_images: int) -> np.ndarray:
    """(N, 32, 32, 3)"""
    return np.random.default_rng(num_images).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)


def write_mat(
    directory: Path, split: str, images: np.ndarray, labels: list[int], monkeypatch: pytest.MonkeyPatch, **keys: Any
) -> Path:
    """One file in the official layout, known by its hash as the official one is."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAMES[split]
    content = {"X": np.moveaxis(images, 0, 3), "y": np.array(labels, np.uint8)[:, None], **keys}
    savemat(path, {key: value for key, value in content.items() if value is not None}, do_compression=True)
    monkeypatch.setitem(svhn._SHA256, split, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_a_mat_file_becomes_rows_and_label_10_is_the_digit_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(4)
    path = write_mat(tmp_path, TRAIN, images, [10, 1, 9, 10], monkeypatch)
    batch = svhn.read(Shard(path, TRAIN, 0, 70))
    assert batch.schema == SOURCE_SCHEMA
    assert batch.column(ID).to_pylist() == [70, 71, 72, 73]
    assert batch.column(LABEL).to_pylist() == [0, 1, 9, 0]
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in images]


def test_extra_images_are_all_unlabeled_with_ids_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(2)
    path = write_mat(tmp_path / "svhn", UNLABELED, images, [3, 10], monkeypatch)
    monkeypatch.setattr(svhn, "NUM_EXTRA", 2)
    options = in_directory(tmp_path, dataset="svhn")
    located = svhn_extra.locate(options, svhn.located([], "unused"))
    (shard,) = located.shards
    assert shard.path == path
    batch = svhn_extra.read(shard)
    assert batch.column(ID).to_pylist() == [UNLABELED_FIRST_ID, UNLABELED_FIRST_ID + 1]
    assert batch.column(LABEL).to_pylist() == [3, 0]
    assert batch.column(SPLIT).to_pylist() == [UNLABELED] * 2


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_is_read_in_parts_by_several_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    images, labels = random_images(7), [1, 2, 3, 4, 5, 6, 10]
    path = write_mat(tmp_path, UNLABELED, images, labels, monkeypatch)
    savemat(path, {"y": np.array(labels, np.uint8)[:, None], "X": np.moveaxis(images, 0, 3)}, do_compression=compressed)
    monkeypatch.setitem(svhn._SHA256, UNLABELED, hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(svhn, "IMAGES_PER_SHARD", 3)
    batches = [svhn.read(shard) for shard in svhn.shards_of(path, UNLABELED, 7, first_id=50)]
    assert [batch.num_rows for batch in batches] == [3, 3, 1]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row[ID] for row in rows] == list(range(50, 57))
    assert [row[LABEL] for row in rows] == [1, 2, 3, 4, 5, 6, 0]
    assert [row[IMAGE] for row in rows] == [image.tobytes() for image in images]


def test_extra_images_do_not_go_with_another_data_set(tmp_path: Path) -> None:
    with refused() as messages:
        svhn_extra.locate(in_directory(tmp_path, dataset="cifar10"), svhn.located([], "unused"))
    assert "svhn_extra has SVHN's classes, not those of cifar10" in messages[0]


@pytest.mark.parametrize("directory", ["", "svhn"])
def test_svhn_is_looked_for_in_the_data_directory_and_in_its_svhn(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir(exist_ok=True)
    for split in (TRAIN, TEST):
        (tmp_path / directory / NAMES[split]).touch()
    located = svhn.locate(in_directory(tmp_path))
    assert [(shard.path, shard.split, shard.first_id) for shard in located.shards] == [
        (tmp_path / directory / "train_32x32.mat", TRAIN, 0),
        (tmp_path / directory / "test_32x32.mat", TEST, 73_257),
    ]


def test_svhn_that_is_nowhere_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(svhn, "OFFICIAL_URL", NOWHERE)
    with refused() as messages:
        svhn.locate(in_directory(tmp_path))
    assert f"put train_32x32.mat and test_32x32.mat into {tmp_path}/svhn" in messages[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"y": np.array([[1], [11]], np.uint8)}, "has the label 10, the 10 classes are 0..9"),
        ({"y": np.array([[1]], np.uint8)}, "2 images and 1 labels"),
        ({"y": None}, "cannot be read as SVHN"),
        ({"X": np.zeros((32, 32, 3), np.uint8)}, "holds images of uint8 (32, 32)"),
        ({"X": np.zeros((28, 28, 3, 2), np.uint8)}, "holds images of uint8 (28, 28, 3)"),
        ({"X": np.zeros((32, 32, 3, 2))}, "holds images of double"),
    ],
    ids=["label 11", "fewer labels", "no labels", "one image", "other size", "other numbers"],
)
def test_a_mat_file_of_another_content_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], named: str
) -> None:
    path = write_mat(tmp_path, TRAIN, random_images(2), [1, 2], monkeypatch, **changes)
    with refused() as messages:
        svhn.read(Shard(path, TRAIN, 0, 0))
    assert str(path) in messages[0] and named in messages[0]


@pytest.mark.parametrize("damage", ["truncated", "empty", "page", "missing"])
def test_a_damaged_mat_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """By its hash; and without that, by what reads it."""
    path = write_mat(tmp_path, TRAIN, random_images(2), [1, 2], monkeypatch)
    content = path.read_bytes()
    path.unlink()
    damaged = {"truncated": content[: len(content) // 2], "empty": b"", "page": b"<html>no such page</html>" * 20}
    if damage in damaged:
        path.write_bytes(damaged[damage])
        with refused() as messages:
            svhn.read(Shard(path, TRAIN, 0, 0))
        assert f"{path} is not the official file" in messages[0]
        monkeypatch.setitem(svhn._SHA256, TRAIN, hashlib.sha256(damaged[damage]).hexdigest())
    with refused() as messages:
        svhn.read(Shard(path, TRAIN, 0, 0))
    assert f"{path} cannot be read" in messages[0]


def test_a_mat_file_that_is_not_the_official_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mat(tmp_path, TRAIN, random_images(2), [1, 2], monkeypatch)
    monkeypatch.setitem(svhn._SHA256, TRAIN, "0" * 64)
    with refused() as messages:
        svhn.read(Shard(path, TRAIN, 0, 0))
    assert f"{path} is not the official file" in messages[0]


@pytest.fixture
def small_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory with 6 training, 2 test and 12 extra images of each digit."""
    for split, of_each in ((TRAIN, 6), (TEST, 2), (UNLABELED, 12)):
        labels = [1 + i % 10 for i in range(10 * of_each)]
        write_mat(tmp_path, split, random_images(len(labels)), labels, monkeypatch)
    monkeypatch.setattr(svhn, "NUM_TRAIN", 60)
    monkeypatch.setattr(svhn, "NUM_EXTRA", 120)
    # Spark's tasks run in other processes: the modules go there with the hashes of the small files.
    for module in (svhn, svhn_extra):
        cloudpickle.register_pickle_by_value(module)
    yield tmp_path
    for module in (svhn, svhn_extra):
        cloudpickle.unregister_pickle_by_value(module)


def test_the_head_is_digit_1_and_the_tail_digit_0(spark: SparkSession, small_svhn: Path) -> None:
    """int(6 * 0.2^(i/9)) is 6, 5, 4, 3, 2, 2, 2, 1, 1, 1."""
    values = {"dataset": "svhn", "data_dir": small_svhn, "n_max": 6, "imb_factor": 0.2}
    manifest = read_manifest(prepare(spark, resolve_options(PrepareOptions, values)))
    assert manifest.counts["train"] == [1, 6, 5, 4, 3, 2, 2, 2, 1, 1]
    assert manifest.counts["test"] == [2] * 10


@pytest.mark.long
def test_the_unlabeled_part_may_be_drawn_from_the_extra_images(spark: SparkSession, small_svhn: Path) -> None:
    """All 60 training images are labelled, so nothing of the training split is left to draw from."""
    values = {"dataset": "svhn", "data_dir": small_svhn, "n_max": 6, "imb_factor": 1.0, "unlabeled": "svhn_extra"}
    options = resolve_options(PrepareOptions, {**values, "imb_factor_unlabel": 0.5, "unlabel_size_factor": 1.0})
    set_dir = prepare(spark, options)
    # T = 60, base 6: int(6 * 0.5^(i/9)) is 6, 5, 5, 4, 4, 4, 3, 3, 3, 3, together 40; each times 60 / 40.
    head_to_tail = [9, 7, 7, 6, 6, 6, 4, 4, 4, 4]
    manifest = read_manifest(set_dir)
    assert manifest.counts["train"] == [6] * 10
    assert manifest.counts["unlabeled"] == [head_to_tail[-1], *head_to_tail[:-1]]
    ids, labels = load_hidden_labels(set_dir)
    assert (ids >= UNLABELED_FIRST_ID).all()
    # Label i % 10 + 1 in the file, so extra image i shows the digit (i + 1) % 10.
    np.testing.assert_array_equal(labels, (ids - UNLABELED_FIRST_ID + 1) % 10)


def test_without_a_size_all_extra_images_are_the_unlabeled_part(spark: SparkSession, small_svhn: Path) -> None:
    values = {"dataset": "svhn", "data_dir": small_svhn, "n_max": 6, "imb_factor": 1.0, "unlabeled": "svhn_extra"}
    assert read_manifest(prepare(spark, resolve_options(PrepareOptions, values))).counts["unlabeled"] == [12] * 10
