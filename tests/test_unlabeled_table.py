"""--unlabeled TABLE: images of a Parquet or Delta table as the unlabeled part."""

from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import ENCODED, ID, IMAGE, LABEL, RAW, SKIPPED, SPLIT, UNLABELED_FIRST_ID
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.sources import table_images, unlabeled_table
from longtail.data.sources.base import Located
from longtail.data.sources.unlabeled import DirectoryOfImages, unlabeled_source
from longtail.spark_jobs.steps.prepare import prepare
from tests.image_tree import colour_of, write_image
from tests.refusals import refused
from tests.sources import in_directory
from tests.test_table_source import png, write


def base(shape: tuple[int, int, int] = (2, 2, 3), encoding: str = ENCODED) -> Located:
    """A data set of two classes."""
    return Located(shards=[], origin="some", class_names=["a", "b"], image_shape=shape, encoding=encoding)


def rows_of(table: Path, of: Located, **values: object) -> list[dict[str, Any]]:
    options = in_directory(table.parent, unlabeled=str(table), **values)
    located = unlabeled_source(options, of).locate(options, of)
    assert (located.image_shape, located.encoding, located.class_names) == (of.image_shape, of.encoding, ["a", "b"])
    rows = [row for shard in located.shards for row in unlabeled_table.read(shard).to_pylist()]
    assert {(row[LABEL], row[SPLIT]) for row in rows} <= {(NO_CLASS, UNLABELED), (NO_CLASS, SKIPPED)}
    return rows


def test_files_stay_as_they_are_and_all_become_unlabeled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_images, "ROWS_PER_SHARD", 3)
    for name, places in {"b": range(6, 10), "a": range(6)}.items():
        columns = {"picture": [{"bytes": png(i)} for i in places], "label": [0 for _ in places]}
        write(tmp_path / "t" / f"{name}.parquet", columns, row_group_size=4)
    write(tmp_path / "t" / "c.parquet", {"other": pa.array([], pa.int32())})
    rows = rows_of(tmp_path / "t", base(), image_column="picture")
    assert [(row[ID] - UNLABELED_FIRST_ID, row[IMAGE]) for row in rows] == [(i, png(i)) for i in range(10)]


def test_beside_pixels_files_become_pixels_of_that_size(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", {"image": [png(0), png(7)]})
    pixels = [np.frombuffer(row[IMAGE], np.uint8).reshape(2, 2, 3) for row in rows_of(table, base(encoding=RAW))]
    assert [image[0, 0].tolist() for image in pixels] == [list(colour_of(0)), list(colour_of(7))]


def test_pixels_of_the_same_shape_are_taken_as_they_are(tmp_path: Path) -> None:
    columns = {"image": [b"ab", b"cd"], "height": [1, 1], "width": [2, 2], "channels": [1, 1]}
    table = write(tmp_path / "t.parquet", columns)
    assert [row[IMAGE] for row in rows_of(table, base((1, 2, 1), RAW))] == [b"ab", b"cd"]


def test_of_a_delta_table_only_the_newest_version_is_read(tmp_path: Path) -> None:
    table = tmp_path / "t"
    deltalake.write_deltalake(str(table), pa.table({"image": [png(0)]}))
    deltalake.write_deltalake(str(table), pa.table({"image": [png(1), png(2)]}), mode="overwrite")
    assert {row[IMAGE] for row in rows_of(table, base())} == {png(1), png(2)}


def test_a_bad_image_stops_or_is_left_out(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", {"image": [png(0), b"<html>", png(2)]})
    with refused() as messages:
        rows_of(table, base())
    assert f"{table}: the image of row 1 of row group 0 cannot be decoded" in messages[0]
    rows = rows_of(table, base(), on_bad_image="skip")
    assert [row[IMAGE] for row in rows if row[SPLIT] == UNLABELED] == [png(0), png(2)]
    assert [row[SPLIT] for row in rows] == [UNLABELED, SKIPPED, UNLABELED]


@pytest.mark.parametrize(
    ("columns", "of", "values", "named"),
    [
        ({"image": [b"a"]}, base(), {"imb_factor_unlabel": 1}, "--imb_factor_unlabel cannot be applied"),
        ({"picture": [b"a"]}, base(), {}, "has no column 'image': it has picture; name it with --image_column"),
        ({"image": pa.array([], pa.binary())}, base(), {}, "has no row"),
        ({"image": [b"a"]}, base((8, 8, 1), RAW), {}, "has files, digits has pixels of (8, 8, 1)"),
        (
            {"image": [b"a"], "height": [1], "width": [1], "channels": [1]}, base(), {},
            "has pixels of (1, 1, 1), digits has files",
        ),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, columns: dict[str, Any], of: Located, values: dict[str, Any], named: str
) -> None:
    table = write(tmp_path / "t.parquet", columns)
    with refused() as messages:
        rows_of(table, of, **values)
    assert str(table) in messages[0] and named in messages[0]


def test_a_directory_of_images_is_no_table(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "1.png", (1, 2, 3))
    write(tmp_path / "images" / "_old" / "t.parquet", {"image": [b"a"]})
    options = in_directory(tmp_path, unlabeled=str(tmp_path / "images"))
    assert unlabeled_source(options, base()) is DirectoryOfImages


def test_a_labelled_and_an_unlabeled_table_become_one_prepared_set(spark: SparkSession, tmp_path: Path) -> None:
    labelled = write(tmp_path / "t.parquet", {"image": [png(i) for i in range(20)], "label": ["a"] * 10 + ["b"] * 10})
    more = write(tmp_path / "more.parquet", {"image": [png(i) for i in range(20, 33)]}, row_group_size=5)
    options = in_directory(tmp_path / "data", dataset="table", path=labelled, image_size=8, unlabeled=str(more))

    set_dir = prepare(spark, PrepareOptions(**options.model_dump()))

    manifest = read_manifest(set_dir)
    assert (manifest.counts[TRAIN], manifest.num_images(UNLABELED), manifest.num_classless) == ([8, 8], 13, 13)
    assert manifest.source.endswith("; images of the table more.parquet")
    unlabeled = load_split(set_dir, UNLABELED, manifest)
    assert unlabeled.labels is None
    assert [image[0, 0].tolist() for image in unlabeled.images] == [list(colour_of(i)) for i in range(20, 33)]
