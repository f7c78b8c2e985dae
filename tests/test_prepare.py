"""Preparing the digits (spark_jobs/steps/prepare.py): what lies on disk, and what is refused.

Digits of scikit-learn: 174 to 183 images a class, of which the first 50 are the test set. With the defaults (40 of the
head class, imb_factor 0.05) the classes have 40, 28, 20, 14, 10, 7, 5, 3, 2, 2 labelled images, 131 together.
"""

import json
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.loader import load_hidden_labels, load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.prepare import main
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.steps.set_writing import write_rows

LABELLED = [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]


def options_of(data_dir: Path, **values: Any) -> PrepareOptions:
    return resolve_options(PrepareOptions, {"data_dir": data_dir, **values})


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> PrepareOptions:
    """A set with all four parts."""
    return options_of(tmp_path_factory.mktemp("full"), imb_factor_unlabel=1.0, val_fraction=0.2)


@pytest.fixture(scope="module")
def full_set(spark: SparkSession, full: PrepareOptions) -> Path:
    return prepare(spark, full)


@pytest.fixture(scope="module")
def digits_by_id() -> tuple[np.ndarray, np.ndarray]:
    """All images (1797, 8, 8, 1) and labels (1797,) in the order of their ids: first the test set, then the rest."""
    digits = load_digits()
    seen: Counter[int] = Counter()
    test, rest = [], []
    for place, label in enumerate(digits.target.tolist()):
        seen[label] += 1
        (test if seen[label] <= 50 else rest).append(place)
    order = test + rest
    # From 0..16 to 0..255: 255 / 16 is 15.9375, exact in binary.
    images = np.floor(digits.images[order] * 15.9375 + 0.5).astype(np.uint8)
    return images[..., None], digits.target[order]


def parquet_files(set_dir: Path) -> list[Path]:
    return sorted((set_dir / "rows").rglob("*.parquet"))


def everything_below(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_the_manifest_says_what_the_set_holds(full_set: Path) -> None:
    """A fifth of each class is held out, rounded, at least one; of 5 x 131 unlabeled images, each class has 65."""
    manifest = json.loads((full_set / "manifest.json").read_text())

    assert manifest["counts"] == {
        "train": [32, 22, 16, 11, 8, 6, 4, 2, 1, 1],
        "val": [8, 6, 4, 3, 2, 1, 1, 1, 1, 1],
        "unlabeled": [65] * 10,
        "test": [50] * 10,
    }
    assert manifest["parameters"] == {
        "dataset": "digits", "imb_type": "exp", "imb_factor": 0.05, "n_max": 40, "val_fraction": 0.2,
        "rand_number": 0, "imb_factor_unlabel": 1.0, "unlabel_size_factor": 5.0,
    }  # fmt: skip
    assert manifest["class_names"] == list("0123456789")
    assert manifest["image_shape"] == [8, 8, 1]
    assert (manifest["format_version"], manifest["dataset"]) == (2, "digits")
    assert set(manifest["checksums"]) == {"train", "val", "unlabeled", "test"}
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in manifest["checksums"].values())


def test_rows_lie_in_a_directory_a_split_and_files_hold_the_other_columns(full_set: Path) -> None:
    assert sorted(path.name for path in full_set.iterdir()) == ["manifest.json", "rows"]
    assert sorted(path.name for path in (full_set / "rows").glob("[!._]*")) == [
        "split=test", "split=train", "split=unlabeled", "split=val",
    ]  # fmt: skip
    for file in parquet_files(full_set):
        with pq.ParquetFile(file) as parquet:
            types = {field.name: str(field.type) for field in parquet.schema_arrow}
            codecs = {parquet.metadata.row_group(0).column(i).compression for i in range(4)}
        assert types == {"id": "int64", "image": "binary", "label": "int32", "hidden_label": "int32"}
        assert codecs == {"LZ4"}


def test_loaded_images_and_labels_are_scikit_learns(
    full_set: Path, digits_by_id: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits_by_id
    manifest = read_manifest(full_set)
    ids_of = {}
    for split in ("train", "val", "unlabeled", "test"):
        loaded = load_split(full_set, split, manifest)
        ids_of[split] = loaded.ids
        np.testing.assert_array_equal(loaded.images, images[loaded.ids])
        if split == "unlabeled":
            assert loaded.labels is None
        else:
            np.testing.assert_array_equal(loaded.labels, labels[loaded.ids])

    np.testing.assert_array_equal(ids_of["test"], np.arange(500))
    others = np.concatenate([ids_of[split] for split in ("train", "val", "unlabeled")])
    assert len(np.unique(others)) == len(others) == 131 + 650
    assert others.min() >= 500


def test_withheld_labels_are_scikit_learns_and_stand_in_no_other_column(
    full_set: Path, digits_by_id: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, hidden = load_hidden_labels(full_set)

    np.testing.assert_array_equal(hidden, digits_by_id[1][ids])
    for file in parquet_files(full_set):
        table = pq.read_table(file, partitioning=None)
        empty, filled = ("label", "hidden_label") if "split=unlabeled" in str(file) else ("hidden_label", "label")
        assert (table[empty].null_count, table[filled].null_count) == (table.num_rows, 0)


def test_a_second_prepare_uses_what_is_there(spark: SparkSession, full: PrepareOptions, full_set: Path) -> None:
    before = everything_below(full.data_dir)

    assert prepare(spark, full) == full_set
    assert everything_below(full.data_dir) == before


@pytest.mark.long
def test_the_set_is_the_same_when_made_again_in_many_files(
    spark: SparkSession, full_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 781 images of 64 bytes fill three.
    monkeypatch.setattr("longtail.spark_jobs.steps.prepare.write_rows", partial(write_rows, file_bytes=16 * 1024))

    again = prepare(spark, options_of(tmp_path, imb_factor_unlabel=1.0, val_fraction=0.2))

    assert len(parquet_files(again)) > len(parquet_files(full_set)) == 4
    assert again.name == full_set.name
    assert read_manifest(again) == read_manifest(full_set)
    for split in ("train", "test"):
        one, many = (load_split(set_dir, split, read_manifest(set_dir)) for set_dir in (full_set, again))
        np.testing.assert_array_equal(many.ids, one.ids)
        np.testing.assert_array_equal(many.images, one.images)


def test_every_parameter_of_the_content_makes_another_directory(tmp_path: Path) -> None:
    plain = {"imb_factor_unlabel": 1.0}
    changes = [
        {}, {"imb_type": "step"}, {"imb_factor": 0.1}, {"imb_factor": 0.1000001}, {"n_max": 41}, {"val_fraction": 0.1},
        {"rand_number": 1}, {"imb_factor_unlabel": None}, {"imb_factor_unlabel": 0.5}, {"unlabel_size_factor": 4.0},
        {"keep_labelled_copies": True},
        {"dataset": "fashion_mnist"},
    ]  # fmt: skip

    names = [prepared_set_dir(options_of(tmp_path, **{**plain, **change})) for change in changes]

    assert len(set(names)) == len(changes)


def test_what_does_not_change_the_content_keeps_the_directory(tmp_path: Path) -> None:
    """Without an unlabeled part its size is no matter; shot groups only sort classes in reports."""
    plain = prepared_set_dir(options_of(tmp_path))

    assert (
        prepared_set_dir(options_of(tmp_path, unlabel_size_factor=3.0, keep_labelled_copies=True, many_shot=30))
        == plain
    )


def test_another_seed_makes_another_set_beside_the_first(
    spark: SparkSession, full: PrepareOptions, full_set: Path
) -> None:
    """And a class of one image keeps it for training, whatever the share of validation."""
    before = everything_below(full_set)

    other = prepare(spark, options_of(full.data_dir, rand_number=1, imb_factor=0.025, val_fraction=0.5))

    assert other.parent == full_set.parent and other != full_set
    assert everything_below(full_set) == before
    counts = read_manifest(other).counts
    # int(40 * 0.025^(i/9)) is 40, 26, 17, 11, 7, 5, 3, 2, 1, 1; halves that end in .5 go to the even neighbour.
    assert counts["val"] == [20, 13, 8, 6, 4, 2, 2, 1, 0, 0]
    assert counts["train"] == [20, 13, 9, 5, 3, 3, 1, 1, 1, 1]
    assert "unlabeled" not in {file.parent.name.partition("=")[2] for file in parquet_files(other)}
    test_of = [read_manifest(set_dir).checksums["test"] for set_dir in (full_set, other)]
    assert test_of[0] == test_of[1]


def test_main_prepares_and_says_where_and_what_is_next(
    spark: SparkSession, full: PrepareOptions, full_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--data_dir", str(full.data_dir), "--imb_factor_unlabel", "1", "--val_fraction", "0.2"])

    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"prepared set: {full_set}"
    assert said[1].startswith("next: longtail stats --dataset digits ")


@pytest.mark.parametrize(
    ("asked", "refusal", "advice"),
    [
        (
            {"n_max": 500, "imb_factor": 1.0},
            "digits has 128 training images of class 0, 500 labelled ones are required: "
            "lower --n_max to 124 (the smallest class has 124)",
            {"n_max": 124},
        ),
        # Class 0 has 128 - 40 = 88 left: 10 K x 131 / 100 <= 88.9 gives K = 6.7.
        (
            {"imb_factor_unlabel": 1.0, "unlabel_size_factor": 10.0},
            "digits leaves 88 unlabeled images of class 0 beside 40 labelled ones, --unlabel_size_factor 10 at "
            "--imb_factor_unlabel 1 needs 131: give --unlabel_size_factor 6.7, or lower --n_max",
            {"unlabel_size_factor": 6.7},
        ),
    ],
    ids=["labelled", "unlabeled"],
)
def test_who_asks_too_much_is_told_what_the_pool_gives_and_gets_that(
    spark: SparkSession, tmp_path: Path, asked: dict[str, Any], refusal: str, advice: dict[str, Any]
) -> None:
    with pytest.raises(UserError) as error:
        prepare(spark, options_of(tmp_path, **asked))

    assert str(error.value) == refusal
    assert list(tmp_path.iterdir()) == []
    made = prepare(spark, options_of(tmp_path, **{**asked, **advice}))
    counts = read_manifest(made).counts
    assert counts["train"] == ([124] * 10 if "n_max" in asked else LABELLED)
    assert counts["unlabeled"] == ([0] * 10 if "n_max" in asked else [87] * 10)  # int(6.7 x 131) = 877


def test_a_step_less_than_advised_is_still_refused(spark: SparkSession, tmp_path: Path) -> None:
    """So the advice is the most that the pool can give."""
    with pytest.raises(UserError, match="give --unlabel_size_factor 6.7"):
        prepare(spark, options_of(tmp_path, imb_factor_unlabel=1.0, unlabel_size_factor=6.8))
