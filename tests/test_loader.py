"""The loader: images byte for byte from whatever files hold them, and nothing from files that are not whole."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import (
    CONFIDENCE,
    ENCODED,
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    PROBABILITIES,
    PSEUDO_LABEL,
    PSEUDO_LABEL_SCHEMA,
    ROUND,
)
from longtail.data.loader import image_array, load_hidden_labels, load_split
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from longtail.data.verification import verify_set
from tests.prepared_set import ROW_SCHEMA, image_rows, write_manifest, write_split
from tests.refusals import refused

SHAPE = (3, 2, 4)
LABELS = [0, 1, 0, 2, 0, 1, 0, 0, 1, 0]
COUNTS = [6, 3, 1]
# Image i has the bytes 24 i, 24 i + 1, ...: every one is different, and all of 0 to 239 occur.
IMAGES = np.arange(10 * 24, dtype=np.uint8).reshape(10, *SHAPE)
IDS = [100 + 7 * i for i in range(10)]


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    """The one file of a prepared set in tmp_path with a training split of ten images."""
    write_manifest(tmp_path, {TRAIN: COUNTS}, image_shape=SHAPE)
    return write_split(tmp_path, TRAIN, image_rows(IDS, IMAGES, labels=LABELS))


def load_train(set_dir: Path) -> tuple[list[int], np.ndarray, list[int]]:
    arrays = load_split(set_dir, TRAIN, read_manifest(set_dir))
    assert arrays.labels is not None
    return arrays.ids.tolist(), arrays.images, arrays.labels.tolist()


def test_images_are_those_of_the_file_byte_for_byte(tmp_path: Path, train_file: Path) -> None:
    ids, images, labels = load_train(tmp_path)
    assert (ids, labels) == (IDS, LABELS)
    assert images.dtype == np.uint8 and np.array_equal(images, IMAGES)


def test_images_come_sorted_by_id_however_they_are_spread_over_files_and_row_groups(tmp_path: Path) -> None:
    write_manifest(tmp_path, {TRAIN: COUNTS}, image_shape=SHAPE)
    shuffled = [8, 1, 6, 3, 0, 9, 2, 5, 7, 4]
    for number, places in enumerate((shuffled[:4], shuffled[4:9], shuffled[9:], [])):
        rows = image_rows([IDS[i] for i in places], IMAGES[places], labels=[LABELS[i] for i in places])
        write_split(tmp_path, TRAIN, rows, file_name=f"part-{number}.parquet", row_group_size=2)
    ids, images, labels = load_train(tmp_path)
    assert (ids, labels) == (IDS, LABELS)
    assert np.array_equal(images, IMAGES)


def test_files_that_are_not_parquet_are_passed_over(tmp_path: Path, train_file: Path) -> None:
    (train_file.parent / "_SUCCESS").touch()
    (train_file.parent / ".part-0.parquet.crc").write_bytes(b"crc")
    assert load_train(tmp_path)[0] == IDS


@pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()])
def test_a_sliced_arrow_chunk_gives_its_own_images(binary: pa.DataType) -> None:
    whole = pa.array([image.tobytes() for image in IMAGES], binary)
    assert np.array_equal(image_array(whole[3:7], SHAPE), IMAGES[3:7])
    chunks = pa.chunked_array([whole[8:], whole[:0], whole[2:3], whole[4:]])
    assert np.array_equal(image_array(chunks, SHAPE), IMAGES[[8, 9, 2, 4, 5, 6, 7, 8, 9]])


def test_one_chunk_is_not_copied() -> None:
    whole = pa.array([image.tobytes() for image in IMAGES], pa.binary())
    images = image_array(whole[3:7], SHAPE)
    assert images.ctypes.data == whole.buffers()[2].address + 3 * 24
    assert not images.flags.writeable


def test_a_column_without_images_is_an_empty_array() -> None:
    assert image_array(pa.array([], pa.binary()), SHAPE).shape == (0, *SHAPE)
    assert image_array(pa.chunked_array([], pa.binary()), SHAPE).shape == (0, *SHAPE)


def test_the_unlabeled_part_comes_without_labels(tmp_path: Path) -> None:
    write_manifest(tmp_path, {UNLABELED: COUNTS}, image_shape=SHAPE)
    write_split(tmp_path, UNLABELED, image_rows(IDS, IMAGES, hidden_labels=LABELS))
    arrays = load_split(tmp_path, UNLABELED, read_manifest(tmp_path))
    assert arrays.labels is None
    assert np.array_equal(arrays.images, IMAGES)


def test_withheld_labels_come_with_their_ids(tmp_path: Path) -> None:
    write_split(tmp_path, UNLABELED, image_rows(IDS, IMAGES, hidden_labels=LABELS))
    ids, labels = load_hidden_labels(tmp_path)
    assert (ids.tolist(), labels.tolist()) == (IDS, LABELS)


def test_pseudo_labels_come_sorted_by_id(tmp_path: Path) -> None:
    for name, columns in {
        "a": {
            ID: [9, 2],
            PSEUDO_LABEL: [1, 0],
            CONFIDENCE: [0.5, 0.75],
            PROBABILITIES: [[0, 0.5, 0.5], [0.75, 0.25, 0]],
        },
        "b": {ID: [4], PSEUDO_LABEL: [2], CONFIDENCE: [1.0], PROBABILITIES: [[0, 0, 1]]},
    }.items():
        columns[ROUND] = [3] * len(columns[ID])
        pq.write_table(pa.table(columns, schema=PSEUDO_LABEL_SCHEMA), tmp_path / f"{name}.parquet")
    ids, labels, confidences = load_pseudo_labels(tmp_path)
    assert ids.tolist() == [2, 4, 9]
    assert labels.tolist() == [0, 2, 1]
    assert confidences.tolist() == [0.75, 1.0, 0.5]
    assert load_probabilities(tmp_path).tolist() == [[0.75, 0.25, 0], [0, 0, 1], [0, 0.5, 0.5]]
    assert load_round(tmp_path) == 3


def test_probabilities_of_different_numbers_of_classes_are_refused(tmp_path: Path) -> None:
    columns = {ID: [1, 2], PSEUDO_LABEL: [0, 0], CONFIDENCE: [1.0, 1.0], PROBABILITIES: [[1, 0], [1]], ROUND: [1, 1]}
    pq.write_table(pa.table(columns, schema=PSEUDO_LABEL_SCHEMA), tmp_path / "a.parquet")
    with refused() as messages:
        load_probabilities(tmp_path)
    assert f"{tmp_path} has probabilities of [1, 2] classes" in messages[0]


def test_another_table_is_not_taken_for_pseudo_labels(train_file: Path) -> None:
    with refused() as messages:
        load_pseudo_labels(train_file.parent)
    assert f"{train_file} has no column confidence, pseudo_label" in messages[0]


@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (IMAGES[:9], LABELS[:9], "has 9 images, its manifest 10"),
        (IMAGES, [0, 1, 0, 2, 0, 1, 0, 0, 1, 1], "has class counts [5, 4, 1], its manifest [6, 3, 1]"),
        (IMAGES, [*LABELS[:9], 3], "has the label 3, its manifest 3 classes"),
        (IMAGES, [*LABELS[:9], 2**31 - 1], "has the label 2147483647, its manifest 3 classes"),
        (IMAGES, [*LABELS[:9], -1], "has class counts [5, 3, 1], its manifest [6, 3, 1]"),
        (IMAGES, [*LABELS[:9], None], "has class counts [5, 3, 1], its manifest [6, 3, 1]"),
        (IMAGES[:, :2], LABELS, "an image has 16 bytes, 24 were expected"),
    ],
    ids=[
        "fewer rows",
        "other label",
        "unknown label",
        "label that would fill the memory",
        "negative label",
        "no label",
        "smaller images",
    ],
)
def test_rows_that_are_not_those_of_the_manifest_are_refused(
    tmp_path: Path, images: np.ndarray, labels: list[int | None], named: str
) -> None:
    write_manifest(tmp_path, {TRAIN: COUNTS}, image_shape=SHAPE)
    write_split(tmp_path, TRAIN, image_rows(IDS[: len(labels)], images, labels=labels))
    with refused() as messages:
        load_train(tmp_path)
    assert named in messages[0]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (ID, ["a"] * 10),
        (ID, [None] * 10),
        (ID, [0.5] * 10),
        (LABEL, [2**31] * 10),
        (LABEL, [[0]] * 10),
        (IMAGE, list(range(10))),
        (IMAGE, [None] * 10),
        (HIDDEN_LABEL, ["a"] * 10),
    ],
)
def test_columns_of_other_types_than_the_contract_s_are_refused(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    write_manifest(tmp_path, {TRAIN: COUNTS}, image_shape=SHAPE)
    file = write_split(tmp_path, TRAIN, image_rows(IDS, IMAGES, labels=LABELS))
    rows = pq.read_table(file, partitioning=None)
    pq.write_table(rows.set_column(rows.column_names.index(column), column, pa.array(values)), file)
    with refused() as messages:
        verify_set(tmp_path, read_manifest(tmp_path))
    assert f"{file} is not of a prepared set" in messages[0]


def test_one_image_of_another_size_is_refused() -> None:
    column = pa.array([bytes(24), bytes(23), bytes(25)], pa.binary())
    with refused() as messages:
        image_array(column, SHAPE)
    assert "an image has 23 bytes, 24 were expected" in messages[0]


def test_a_flipped_byte_in_a_page_is_refused(tmp_path: Path, train_file: Path) -> None:
    content = bytearray(train_file.read_bytes())
    place = content.find(IMAGES[4].tobytes())
    assert place > 0, "the images lie in the file as they are"
    content[place] ^= 1
    train_file.write_bytes(content)
    with refused() as messages:
        load_train(tmp_path)
    assert f"{train_file} is damaged" in messages[0]


@pytest.mark.parametrize("kept", [0, 3, 100, 400, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, train_file: Path, kept: int) -> None:
    train_file.write_bytes(train_file.read_bytes()[:kept])
    with refused() as messages:
        load_train(tmp_path)
    assert f"{train_file} is damaged" in messages[0]


def test_a_missing_column_is_refused(tmp_path: Path, train_file: Path) -> None:
    pq.write_table(pq.read_table(train_file, columns=[ID, IMAGE], partitioning=None), train_file)
    with refused() as messages:
        load_train(tmp_path)
    assert f"{train_file} has no column {LABEL}" in messages[0]


def test_a_split_without_files_is_refused(tmp_path: Path, train_file: Path) -> None:
    train_file.unlink()
    with refused() as messages:
        load_train(tmp_path)
    assert "has no Parquet file" in messages[0]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = Manifest(
        dataset="digits",
        parameters={"imb_factor": 0.05, "n_max": 40},
        class_names=["zero", "one"],
        image_shape=(8, 8, 1),
        encoding="raw",
        num_classless=0,
        num_bad_images=0,
        channel_mean=[0.25],
        channel_std=[0.5],
        duplicates=[{"splits": "test+train", "num_contents": 1, "num_images": 2}],
        counts={TRAIN: [40, 2], VAL: [0, 0], UNLABELED: [0, 0], TEST: [50, 50]},
        checksums={TRAIN: "1F"},
        source="a book",
    )
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path).num_classes == 2


def test_a_manifest_that_lacks_a_split_is_damaged(tmp_path: Path) -> None:
    write_manifest(tmp_path, {TRAIN: [1, 1]}, image_shape=(8, 8, 1))
    values = json.loads((tmp_path / "manifest.json").read_text())
    del values["counts"][VAL]
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with refused() as messages:
        read_manifest(tmp_path)
    assert "is damaged" in messages[0]


def test_a_directory_without_manifest_is_no_prepared_set(tmp_path: Path) -> None:
    with refused() as messages:
        read_manifest(tmp_path)
    assert f"{tmp_path} is not a prepared data set" in messages[0]


def test_a_set_of_another_layout_is_refused_with_both_versions(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, {TRAIN: COUNTS}, image_shape=SHAPE)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": manifest.format_version + 1}))
    with refused() as messages:
        read_manifest(tmp_path)
    assert (
        "has the format version 3, this version of Longtail reads up to 2: upgrade longtail, or delete" in messages[0]
    )
    assert "run `longtail prepare` again" in messages[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format_version": 0}',
        '{"format_version": "1"}',
        '{"format_version": 1}',
        '{"format_version": 1, "image_shape": [8, 8, 1], "other": 2}',
    ],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(content)
    with refused() as messages:
        read_manifest(tmp_path)
    assert str(file) in messages[0]


def test_a_manifest_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(UserError, match="cannot read .*manifest.json"):
        read_manifest(tmp_path)


def test_images_of_no_class_belong_to_the_unlabeled_part_and_have_no_withheld_label(tmp_path: Path) -> None:
    hidden = [0, None, 1, None, 0]
    rows = image_rows(IDS[:5], IMAGES[:5], hidden_labels=hidden)
    write_manifest(tmp_path, {UNLABELED: [2, 1, 0]}, image_shape=SHAPE, num_classless=2)
    write_split(tmp_path, UNLABELED, rows)
    assert len(load_split(tmp_path, UNLABELED, read_manifest(tmp_path)).ids) == 5
    assert load_hidden_labels(tmp_path)[1].tolist() == [0, -1, 1, -1, 0]
    write_split(tmp_path, UNLABELED, rows.slice(0, 4))
    with refused() as messages:
        load_split(tmp_path, UNLABELED, read_manifest(tmp_path))
    assert "has 4 images, its manifest 5" in messages[0]


def test_files_of_an_encoded_set_are_decoded(tmp_path: Path) -> None:
    contents = []
    for grey in (7, 99):
        file = io.BytesIO()
        Image.fromarray(np.full((6, 4, 3), grey, np.uint8)).save(file, "PNG")
        contents.append(file.getvalue())
    columns = {ID: [3, 1], IMAGE: contents, LABEL: [0, 1], HIDDEN_LABEL: [None, None]}
    write_manifest(tmp_path, {TRAIN: [1, 1]}, image_shape=(2, 2, 3), encoding=ENCODED)
    write_split(tmp_path, TRAIN, pa.table(columns, schema=ROW_SCHEMA))
    ids, images, labels = load_train(tmp_path)
    assert (ids, labels) == ([1, 3], [1, 0])
    assert images.tolist() == np.repeat([99, 7], 12).reshape(2, 2, 2, 3).tolist()


def test_a_manifest_with_an_encoding_that_nobody_knows_is_damaged(tmp_path: Path) -> None:
    write_manifest(tmp_path, {TRAIN: [1, 1]}, image_shape=(2, 2, 3), encoding="webp")
    with refused() as messages:
        read_manifest(tmp_path)
    assert "is damaged (encoding 'webp')" in messages[0]
