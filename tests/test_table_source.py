"""Tables of the user's own: every kind of image and label column, and what is refused by name."""

import io
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.options.data import DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ENCODED, ID, IMAGE, LABEL, RAW, SKIPPED, SOURCE_SCHEMA, SPLIT, read_skipped_image
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.sources import table, table_images
from longtail.data.sources.base import Located
from longtail.data.storage import is_table, table_files
from longtail.spark_jobs.steps.prepare import prepare
from tests.image_tree import colour_of
from tests.refusals import refused
from tests.sources import in_directory


def png(number: int, *, size: int = 3) -> bytes:
    """A file of one colour, another for each number."""
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), colour_of(number), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def options_of(path: Path, **values: object) -> DataOptions:
    return in_directory(path.parent / "data", dataset="table", path=path, **values)


def rows_of(located: Located) -> list[dict[str, Any]]:
    batches = [table.read(shard) for shard in located.shards]
    assert {batch.schema for batch in batches} == {SOURCE_SCHEMA}
    return sorted(pa.Table.from_batches(batches).to_pylist(), key=lambda row: row[ID])


SIZED = {"image": [b"a"] * 2, "label": [0, 1], "height": [1, 1], "width": [1, 1], "channels": [1, 1]}
LABELS = [0, 1, 0, 1, 1, 0, 1, 0, 1, 1]


def test_files_of_images_and_numbers_become_rows_in_the_order_of_the_files(tmp_path: Path) -> None:
    for name, places in {"b": range(6, 10), "a": range(6)}.items():
        columns = {"image": [png(i) for i in places], "label": [LABELS[i] for i in places]}
        write(tmp_path / "t" / f"{name}.parquet", columns, row_group_size=4)
    write(tmp_path / "t" / "_hidden" / "c.parquet", {"image": [b""], "label": [7]})
    located = table.locate(options_of(tmp_path / "t", image_size=9))
    rows = rows_of(located)
    assert (located.encoding, located.image_shape) == (ENCODED, (9, 9, 3))
    assert located.class_names == ["0", "1"]
    assert [row[ID] for row in rows] == list(range(10))
    assert [row[IMAGE] for row in rows] == [png(i) for i in range(10)]
    assert [row[LABEL] for row in rows] == LABELS
    # A fifth of four is 0.8, of six 1.2: one test image of each class.
    assert sorted(row[LABEL] for row in rows if row[SPLIT] == TEST) == [0, 1]


def test_names_are_numbered_as_they_sort(tmp_path: Path) -> None:
    columns = {"picture": [png(i) for i in range(4)], "kind": pa.array(["ox", "ant", "ox", "ant"]).dictionary_encode()}
    write(tmp_path / "t.parquet", columns)
    located = table.locate(options_of(tmp_path / "t.parquet", image_column="picture", label_column="kind"))
    assert located.class_names == ["ant", "ox"]
    assert [row[LABEL] for row in rows_of(located)] == [1, 0, 1, 0]


def test_a_value_of_a_dictionary_that_no_row_has_is_no_class(tmp_path: Path) -> None:
    kinds = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2, 0]), pa.array(["ox", "bee", "ant"]))
    write(tmp_path / "t.parquet", {"image": [png(i) for i in range(4)], "label": kinds}, row_group_size=2)
    located = table.locate(options_of(tmp_path / "t.parquet"))
    assert located.class_names == ["ant", "ox"]
    assert [row[LABEL] for row in rows_of(located)] == [0, 1, 0, 1]


def test_a_very_long_label_that_rows_repeat_is_in_memory_once(tmp_path: Path) -> None:
    """Spelled out it would be 100 GB."""
    kinds = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 50_000), pa.array(["a", "b" * 2_000_000]))
    write(tmp_path / "t.parquet", {"image": pa.repeat(png(0), 100_000), "label": kinds}, compression="zstd")
    with refused() as messages:
        table.locate(options_of(tmp_path / "t.parquet"))
    assert "whose name has more than" in messages[0] and len(messages[0]) < 300


@pytest.mark.parametrize(("values", "names"), [(("ox", "a%20b"), ["a b", "ox"]), (("1", "0"), ["0", "1"])])
def test_a_directory_s_name_can_be_the_label(tmp_path: Path, values: tuple[str, str], names: list[str]) -> None:
    for place, value in enumerate(values):
        write(tmp_path / "t" / f"label={value}" / "part.parquet", {"image": [png(place), png(place + 2)]})
    located = table.locate(options_of(tmp_path / "t"))
    assert located.class_names == names
    assert {row[IMAGE]: row[LABEL] for row in rows_of(located)} == {png(0): 1, png(2): 1, png(1): 0, png(3): 0}


@pytest.mark.parametrize(
    ("values", "names"),
    [(("10", "9"), ["9", "10"]), (("01", "b"), ["01", "b"]), (("1", "x%3Dy"), ["1", "x=y"]), (("7", "3"), ["3", "7"])],
)
def test_directories_are_numbers_if_all_are_and_else_names(
    tmp_path: Path, values: tuple[str, str], names: list[str]
) -> None:
    for place, value in enumerate(values):
        write(tmp_path / "t" / f"label={value}" / "part.parquet", {"image": [png(place), png(place + 2)]})
    assert table.locate(options_of(tmp_path / "t")).class_names == names


def test_a_directory_of_a_label_below_0_is_refused_as_such_a_column_is(tmp_path: Path) -> None:
    for value in ("-1", "0", "1"):
        write(tmp_path / "t" / f"label={value}" / "part.parquet", {"image": [png(0), png(1)]})
    with refused() as messages:
        table.locate(options_of(tmp_path / "t"))
    assert "t has the label -1 in 'label', and labels count from 0" in messages[0]


def test_numbers_may_have_gaps_and_take_no_memory(tmp_path: Path) -> None:
    columns = {"image": [png(i) for i in range(6)], "label": [2**62, 7, 7, 2**62, 3, 3]}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns)))
    assert located.class_names == ["3", "7", str(2**62)]
    assert [row[LABEL] for row in rows_of(located)] == [2, 1, 1, 2, 0, 0]


def test_a_table_as_spark_writes_it(spark: SparkSession, tmp_path: Path) -> None:
    """Partitioned by names that Spark writes in another way in directory names; a null has a directory of its own."""
    labels = ["[/b]", "a b", "100%", "x=y", "3", "e:f", "caf\u00e9"]
    rows = [(png(number), label) for number, label in enumerate(labels * 2)]
    frame = spark.createDataFrame(rows, "image binary, label string")
    frame.write.partitionBy("label").parquet(str(tmp_path / "t"))
    located = table.locate(options_of(tmp_path / "t"))
    assert located.class_names == sorted(labels)
    assert {row[IMAGE]: located.class_names[row[LABEL]] for row in rows_of(located)} == dict(rows)
    with_null = frame.unionByName(spark.createDataFrame([(png(99), None)], frame.schema))
    with_null.write.partitionBy("label").parquet(str(tmp_path / "n"))
    with refused() as messages:
        table.locate(options_of(tmp_path / "n"))
    assert "label=__HIVE_DEFAULT_PARTITION__" in messages[0] and "has 1 rows without a label" in messages[0]


def test_images_that_spark_cannot_decode_stop_or_are_left_out(spark: SparkSession, tmp_path: Path) -> None:
    """Spark's image source gives a row of height -1 in place of them; here the first of a file."""
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"no image")
    for number in (1, 2, 3):
        Image.fromarray(pixels + number).save(tmp_path / "images" / f"{number}.png")
    frame = spark.read.format("image").load(str(tmp_path / "images")).orderBy("image.origin")
    number = F.regexp_extract("image.origin", "([0-9])[.]png", 1).cast("int")
    frame.withColumn("label", number % 2).coalesce(1).write.parquet(str(tmp_path / "t"))
    located = {how: table.locate(options_of(tmp_path / "t", on_bad_image=how)) for how in ("stop", "skip")}
    assert (located["skip"].encoding, located["skip"].image_shape) == (RAW, (2, 4, 3))
    with refused() as messages:
        rows_of(located["stop"])
    assert "row 0 of row group 0 cannot be decoded (Spark could not decode it)" in messages[0]
    skipped, *others = rows_of(located["skip"])
    assert skipped[SPLIT] == SKIPPED
    assert [row[IMAGE] for row in others] == [(pixels + number).tobytes() for number in (1, 2, 3)]


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
@pytest.mark.parametrize("label_kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_columns_of_every_type_of_bytes_and_text_are_read(
    tmp_path: Path, kind: pa.DataType, label_kind: pa.DataType
) -> None:
    labels = pa.array(["ox", "ant", "ox", "ant"])
    labels = labels.dictionary_encode() if pa.types.is_dictionary(label_kind) else labels.cast(label_kind)
    images = pa.array([png(i) for i in range(4)])
    images = images.dictionary_encode() if pa.types.is_dictionary(kind) else images.cast(kind)
    located = table.locate(options_of(write(tmp_path / "t.parquet", {"image": images, "label": labels})))
    assert located.class_names == ["ant", "ox"]
    assert [(row[IMAGE], row[LABEL]) for row in rows_of(located)] == [(png(i), 1 - i % 2) for i in range(4)]


def test_pixels_may_be_of_a_fixed_size(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"image": pa.array([image.tobytes() for image in PIXELS], pa.binary(24))}
    columns |= {"label": [0, 1, 0, 1], "height": [2] * 4, "width": [3] * 4, "channels": [4] * 4}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns)))
    assert [row[IMAGE] for row in rows_of(located)] == [image.tobytes() for image in PIXELS]


def test_files_beside_columns_of_their_size_are_files(tmp_path: Path) -> None:
    sizes = {name: [side] * 4 for name, side in (("height", 3), ("width", 3), ("channels", 3))}
    columns = {"image": [None, png(1), png(2), png(3)], "label": [0, 1, 0, 1], **sizes}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns), on_bad_image="skip"))
    assert located.encoding == ENCODED
    assert [row[IMAGE] for row in rows_of(located)][1:] == [png(1), png(2), png(3)]


def test_images_may_lie_in_a_struct_beside_their_path(tmp_path: Path) -> None:
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(4)]
    located = table.locate(options_of(write(tmp_path / "t.parquet", {"image": images, "label": [0, 1, 0, 1]})))
    assert located.encoding == ENCODED
    assert [row[IMAGE] for row in rows_of(located)] == [png(i) for i in range(4)]


PIXELS = np.arange(4 * 24, dtype=np.uint8).reshape(4, 2, 3, 4)


def test_raw_pixels_have_their_size_in_columns(tmp_path: Path) -> None:
    columns = {"image": [image.tobytes() for image in PIXELS], "label": [0, 1, 0, 1]}
    columns |= {name: [side] * 4 for name, side in (("height", 2), ("width", 3), ("channels", 4))}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns)))
    assert (located.encoding, located.image_shape) == (RAW, (2, 3, 4))
    assert [row[IMAGE] for row in rows_of(located)] == [image.tobytes() for image in PIXELS]


@pytest.mark.parametrize(("channels", "as_rgb"), [(1, [0]), (3, [2, 1, 0]), (4, [2, 1, 0, 3])])
def test_spark_s_images_come_out_red_first(tmp_path: Path, channels: int, as_rgb: list[int]) -> None:
    pixels = PIXELS[..., :channels]
    images = [
        {"origin": "", "height": 2, "width": 3, "nChannels": channels, "mode": 16, "data": image.tobytes()}
        for image in pixels
    ]
    located = table.locate(options_of(write(tmp_path / "t.parquet", {"image": images, "label": [0, 1, 0, 1]})))
    assert located.image_shape == (2, 3, channels)
    assert [row[IMAGE] for row in rows_of(located)] == [image[..., as_rgb].tobytes() for image in pixels]


def test_rows_of_large_row_groups_are_read_by_several_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_images, "ROWS_PER_SHARD", 3)
    monkeypatch.setattr(table_images, "ROWS_AT_ONCE", 2)
    columns = {"image": [png(i) for i in range(10)], "label": LABELS}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns, row_group_size=8)))
    assert [shard.rows.num_rows for shard in located.shards] == [3, 3, 2, 2]
    assert [(row[IMAGE], row[LABEL]) for row in rows_of(located)] == [(png(i), LABELS[i]) for i in range(10)]


def test_the_test_share_is_exact_and_goes_by_the_seed(tmp_path: Path) -> None:
    """A fifth of 35 is 7, of 11 it is 2.2, of 3 it is 0.6 (at least one), of a single image none."""
    labels = [0] * 35 + [1] * 11 + [2] * 3 + [3]
    path = write(tmp_path / "t.parquet", {"image": [png(i) for i in range(50)], "label": labels}, row_group_size=7)

    def test_ids(seed: int) -> list[int]:
        rows = rows_of(table.locate(options_of(path, rand_number=seed)))
        chosen = [row for row in rows if row[SPLIT] == TEST]
        assert np.bincount([row[LABEL] for row in chosen], minlength=4).tolist() == [7, 2, 1, 0]
        return [row[ID] for row in chosen]

    assert test_ids(0) == test_ids(0) != test_ids(1)


def test_a_table_of_test_images_is_taken_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": [png(0), png(1)], "label": ["b", "a"]})
    test_path = write(tmp_path / "e.parquet", {"image": [png(2)], "label": ["b"]})
    rows = rows_of(table.locate(options_of(path, test_path=test_path)))
    assert [(row[ID], row[LABEL], row[SPLIT]) for row in rows] == [(0, 1, TRAIN), (1, 0, TRAIN), (2, 1, TEST)]
    write(test_path, {"image": [png(2)], "label": ["c"]})
    with refused() as messages:
        table.locate(options_of(path, test_path=test_path))
    assert f"{test_path} has the label 'c', which no training image has" in messages[0]


def test_of_a_delta_table_only_the_files_of_its_newest_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t"
    old, new = ({"image": [png(first), png(first + 1)], "label": [0, 1]} for first in (0, 5))
    deltalake.write_deltalake(str(path), pa.table(old))
    deltalake.write_deltalake(str(path), pa.table(new), mode="overwrite")
    assert len(list(path.glob("*.parquet"))) == 2
    held_out = write(tmp_path / "held_out.parquet", {"image": [png(8)], "label": [0]})
    rows = rows_of(table.locate(options_of(path, test_path=held_out)))
    assert {row[IMAGE] for row in rows} == {png(5), png(6), png(8)}


@pytest.mark.parametrize("bad", [b"<html>", png(0)[:40], b"", None], ids=["page", "truncated", "empty", "null"])
def test_a_bad_image_stops_by_its_row_or_is_left_out(tmp_path: Path, bad: bytes | None) -> None:
    images = [png(0), png(1), png(2), bad, png(4)]
    path = write(tmp_path / "t.parquet", {"image": images, "label": [0, 1, 0, 1, 0]}, row_group_size=2)
    with refused() as messages:
        rows_of(table.locate(options_of(path)))
    assert f"{path}: the image of row 1 of row group 1 cannot be decoded" in messages[0]
    left = rows_of(table.locate(options_of(path, on_bad_image="skip")))
    assert [row[ID] for row in left if row[SPLIT] != SKIPPED] == [0, 1, 2, 4]
    name, reason = read_skipped_image(left[3][IMAGE])
    assert name == f"{path}: row 1 of row group 1" and reason in messages[0]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"image": [b"a"], "kind": [0]}, "has no column 'label': it has image, kind; name the columns with"),
        ({"pixels": [b"a"], "label": [0]}, "has no column 'image': it has pixels, label"),
        ({"image": [b"a", b"b"], "label": [0, None]}, "has 1 rows without a label"),
        ({"image": [b"a", b"b"], "label": [0.5, 1.5]}, "has labels of the type double"),
        ({"image": [b"a", b"b"], "label": [0, -1]}, "has the label -1"),
        ({"image": [b"a", b"b"], "label": ["a", "b\x1b[1m"]}, "has the class 'b\\x1b[1m', whose name has a control"),
        ({"image": [b"a", b"b"], "label": ["a", ""]}, "has a class without a name"),
        ({"image": [b"a", b"b"], "label": [0, 0]}, "has 1 classes"),
        ({"image": [b"a", b"b"], "label": [0, 1]}, "has no image for the test set"),
        ({"image": ["a", "b"], "label": [0, 1]}, "has images of the type string"),
        ({"image": [[1], [2]], "label": [0, 1]}, "has images of the type list"),
        (
            {"image": pa.array([[1], [2]], pa.list_view(pa.uint8())), "label": [0, 1]},
            "has images of the type list_view",
        ),
        ({"image": [b"a", b"b"], "label": [True, False]}, "has labels of the type bool"),
        (
            {"image": [b"a"] * 2, "label": ["a", "b"], "height": ["1"] * 2, "width": [1, 1], "channels": [1, 1]},
            "has string in 'height': integers",
        ),
        (
            {"image": [b"a"] * 4, "label": [0, 1] * 2, "height": [1.0] * 4, "width": [1] * 4, "channels": [1] * 4},
            "has double in 'height'",
        ),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int32())}, "has 0 classes"),
        (
            SIZED | {"image": [b"ab"] * 2, "channels": [2, 2]},
            "has a first image of height, width and channels (1, 1, 2)",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(tmp_path: Path, columns: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "t.parquet", columns)
    with refused() as messages:
        table.locate(options_of(path))
    assert str(path) in messages[0] and named in messages[0]


@pytest.mark.parametrize(
    ("second", "named"),
    [
        (
            {name: [1] * 4 for name in table_images.SIZE_COLUMNS} | {"image": [{"bytes": b"a"}] * 4},
            "has structs with `bytes` in 'image', other files have bytes: use one form in all files",
        ),
        ({"image": [b"abc"] * 4}, "has no column 'height': it has image, label; use the same columns in all files"),
    ],
)
def test_files_of_another_form_are_refused_and_not_skipped(
    tmp_path: Path, second: dict[str, list[Any]], named: str
) -> None:
    write(tmp_path / "t" / "a.parquet", SIZED | {"image": [b"a", b"b"]})
    other = write(tmp_path / "t" / "b.parquet", second | {"label": [0, 1] * 2})
    located = table.locate(options_of(tmp_path / "t", on_bad_image="skip"))
    with refused() as messages:
        rows_of(located)
    assert messages[0].startswith(f"{other} {named}")


def test_a_file_with_fewer_images_than_it_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some damaged ones are, for which Arrow gives no rows and no error."""
    path = write(tmp_path / "t.parquet", {"image": [png(0)] * 4, "label": [0, 1] * 2})
    located = table.locate(options_of(path))
    monkeypatch.setattr(table_images, "_batches", lambda _: iter([pa.RecordBatch.from_pydict({"image": [png(0)]})]))
    with refused() as messages:
        rows_of(located)
    assert "t.parquet is damaged (a row group has 1 of 4 images)" in messages[0]


@pytest.mark.parametrize("twice", ["image", "label"])
def test_a_table_with_two_columns_of_a_name_is_refused(tmp_path: Path, twice: str) -> None:
    columns = {"image": pa.array([b"a", b"b"]), "label": pa.array([0, 1])}
    both = pa.table({**columns, "other": columns[twice]}).rename_columns(["image", "label", twice])
    pq.write_table(both, tmp_path / "t.parquet")
    with refused() as messages:
        table.locate(options_of(tmp_path / "t.parquet"))
    assert messages[0] == f"{tmp_path}/t.parquet has 2 columns '{twice}': give each a name of its own"


def test_a_damaged_first_image_does_not_decide_what_the_others_are(tmp_path: Path) -> None:
    columns = {"image": [b"junk", png(1), png(2), png(3)], "label": [0, 1, 0, 1]}
    columns |= {name: [size] * 4 for name, size in (("height", 3), ("width", 3), ("channels", 3))}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns), on_bad_image="skip"))
    assert located.encoding == ENCODED
    assert [row[SPLIT] for row in rows_of(located)].count(SKIPPED) == 1


def test_labels_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    columns = {"image": [png(i) for i in range(6)], "label": ["ox", "ox ", "\ufeffox", "Ox", "Ox", "ox"]}
    located = table.locate(options_of(write(tmp_path / "t.parquet", columns)))
    assert located.class_names == ["Ox", "ox"]
    assert located.origin.endswith("; the classes 'Ox' and 'ox' differ in capital letters alone")


def test_directories_of_two_names_that_are_not_utf_8_are_not_one_class(tmp_path: Path) -> None:
    for value in ("caf%E9", "caf%E8"):
        write(tmp_path / "t" / f"label={value}" / "a.parquet", {"image": [png(1), png(2)]})
    with refused() as messages:
        table.locate(options_of(tmp_path / "t"))
    assert "whose name has bytes that are not UTF-8: rename it" in messages[0]


def test_a_table_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t" / "a.parquet", {"image": [png(1), png(2)], "label": [0, 1]})
    (tmp_path / "link").symlink_to(path.parent)
    with refused() as messages:
        table.locate(options_of(path.parent, test_path=tmp_path / "link"))
    assert messages[0].startswith(f"{tmp_path}/link/a.parquet is in the train split and in the test split")


def test_raw_images_of_another_size_are_refused_by_their_row(tmp_path: Path) -> None:
    columns = {"image": [b"a", b"bc", b"d", b"e"], "label": [0, 1, 0, 1]}
    columns |= {"height": [1, 1, 1, 1], "width": [1, 2, 1, 1], "channels": [1] * 4}
    with refused() as messages:
        rows_of(table.locate(options_of(write(tmp_path / "t.parquet", columns))))
    assert (
        "row 1 of row group 0 cannot be decoded (2 bytes of (1, 2, 1), all images must be of (1, 1, 1))" in messages[0]
    )


def test_what_is_no_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("image,label\n")
    with refused() as messages:
        table.locate(options_of(tmp_path / "t.parquet"))
    assert f"{tmp_path}/t.parquet is damaged" in messages[0]
    (tmp_path / "empty").mkdir()
    with refused() as messages:
        table.locate(options_of(tmp_path / "empty"))
    assert f"{tmp_path}/empty has no Parquet file" in messages[0]


def test_a_directory_above_a_table_that_is_named_like_a_file_is_the_table(tmp_path: Path) -> None:
    columns = {"image": [b"a", b"b", b"c", b"d"], "label": [0, 1, 0, 1]}
    write(tmp_path / "rows.parquet" / "part-0.parquet", columns)
    assert table_files(tmp_path) == [tmp_path / "rows.parquet" / "part-0.parquet"]
    assert is_table(tmp_path)
    (tmp_path / "rows.parquet" / "part-0.parquet").unlink()
    assert not is_table(tmp_path)


def test_a_table_becomes_a_prepared_set(spark: SparkSession, tmp_path: Path) -> None:
    columns = {"image": [png(i) for i in range(40)], "label": ["a"] * 25 + ["b"] * 15}
    path = write(tmp_path / "t.parquet", columns, row_group_size=9)
    values = {"image_size": 8, "imb_type": "exp", "n_max": 20, "imb_factor": 0.25}
    options = in_directory(tmp_path / "data", dataset="table", path=path, **values)
    set_dir = prepare(spark, PrepareOptions(**options.model_dump()))
    manifest = read_manifest(set_dir)
    assert (manifest.class_names, manifest.counts[TRAIN], manifest.counts[TEST]) == (["a", "b"], [20, 5], [5, 3])
    train = load_split(set_dir, TRAIN, manifest)
    for image_id, image, label in zip(train.ids.tolist(), train.images, train.labels.tolist(), strict=True):
        assert image.tolist() == [[list(colour_of(image_id))] * 8] * 8
        assert label == (image_id >= 25)
