"""Unlabeled images in the layout of ti_80M_selected.pickle."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import ENCODED, ID, IMAGE, LABEL, SPLIT, UNLABELED_FIRST_ID
from longtail.data.sources import tiny_images
from longtail.data.sources.base import Located
from longtail.data.sources.unlabeled import unlabeled_source
from tests.refusals import refused
from tests.sources import in_directory

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def base(encoding: str = "raw") -> Located:
    return Located(
        shards=[], origin="", class_names=list("0123456789"), image_shape=(32, 32, 3), encoding=encoding
    )  # fmt: skip


def write_pickle(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_the_file_becomes_unlabeled_rows_with_the_extrapolated_classes_withheld(tmp_path: Path) -> None:
    file = write_pickle(tmp_path / "ti.pickle", {"data": IMAGES, "extrapolated_targets": np.array([9, 0, 4])})
    options = in_directory(tmp_path, dataset="cifar10", unlabeled=str(file))
    source = unlabeled_source(options, base())
    (shard,) = source.locate(options, base()).shards
    batch = source.read(shard)
    assert batch.column(ID).to_pylist() == [UNLABELED_FIRST_ID + i for i in range(3)]
    assert batch.column(LABEL).to_pylist() == [9, 0, 4]
    assert batch.column(SPLIT).to_pylist() == [UNLABELED] * 3
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in IMAGES]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"data": IMAGES, "extrapolated_targets": np.array([9, 10, 4])}, "has the label 10, the 10 classes are 0..9"),
        ({"data": IMAGES[:, :8], "extrapolated_targets": np.array([1, 2, 3])}, "has images of shape (8, 32, 3)"),
        ({"data": IMAGES / 255, "extrapolated_targets": np.array([1, 2, 3])}, "has data of float64"),
        ({"data": IMAGES, "extrapolated_targets": np.array([1.5, 2, 3])}, "extrapolated_targets of float64"),
        ({"data": IMAGES}, "has no extrapolated_targets: it has data"),
        ([IMAGES], "has a list, a dict of data, extrapolated_targets was expected"),
        ({"data": os.system}, "it names posix.system"),
    ],
    ids=["label", "shape", "floats", "float labels", "no labels", "list", "hostile"],
)
def test_a_file_of_another_content_is_refused_by_name(tmp_path: Path, content: Any, named: str) -> None:
    file = write_pickle(tmp_path / "ti.pickle", content)
    with refused() as messages:
        tiny_images.locate(in_directory(tmp_path, dataset="cifar10", unlabeled=str(file)), base())
    assert str(file) in messages[0] and named in messages[0]


def test_fewer_labels_than_images_are_refused(tmp_path: Path) -> None:
    file = write_pickle(tmp_path / "ti.pickle", {"data": IMAGES, "extrapolated_targets": np.array([9, 0])})
    options = in_directory(tmp_path, dataset="cifar10", unlabeled=str(file))
    (shard,) = tiny_images.locate(options, base()).shards
    with refused() as messages:
        tiny_images.read(shard)
    assert f"{file} has 3 images and 2 labels" in messages[0]


def test_pixels_do_not_go_with_a_set_of_files(tmp_path: Path) -> None:
    file = write_pickle(tmp_path / "ti.pickle", {})
    with refused() as messages:
        unlabeled_source(in_directory(tmp_path, dataset="cifar10", unlabeled=str(file)), base(ENCODED))
    assert "name a directory" in messages[0]
