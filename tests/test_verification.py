"""A prepared set whose rows are not those of its manifest is refused when a job opens it (data/verification.py)."""

import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import SPLITS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL, split_directory
from longtail.data.manifest import read_manifest
from longtail.data.verification import verify_set
from tests.prepared_set import change_manifest, checksums_of
from tests.refusals import refused
from tests.tiny_set import write_tiny_set


@pytest.fixture
def own_set(tmp_path: Path, set_dir: Path) -> Path:
    """A copy of the tiny set, to be damaged."""
    return shutil.copytree(set_dir, tmp_path / "set")


def rows_of(set_dir: Path, split: str) -> pa.Table:
    return pq.read_table(file_of(set_dir, split), partitioning=None)


def file_of(set_dir: Path, split: str) -> Path:
    return Path(split_directory(set_dir, split)) / "part-0.parquet"


def rewrite(set_dir: Path, split: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a split as a program would: with page checksums that are right."""
    rows = change(rows_of(set_dir, split))
    pq.write_table(rows, file_of(set_dir, split), write_page_checksum=True)


def with_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), rows.schema.field(name), pa.array(values, rows[name].type))


def refusal(set_dir: Path) -> str:
    with refused() as messages:
        verify_set(set_dir, read_manifest(set_dir))
    return messages[0]


def test_checksums_are_those_of_a_few_plain_lines(set_dir: Path) -> None:
    for split in SPLITS:
        total = 0
        for row in rows_of(set_dir, split).to_pylist():
            numbers = [row[ID], *(-1 if row[name] is None else row[name] for name in (LABEL, HIDDEN_LABEL))]
            digest = hashlib.sha256(struct.pack("<3q", *numbers) + row[IMAGE]).digest()
            total += int.from_bytes(digest, "little")
        assert read_manifest(set_dir).checksums[split] == f"{total % 2**256:064x}"


def test_a_whole_set_is_verified(set_dir: Path) -> None:
    verify_set(set_dir, read_manifest(set_dir))


def test_neither_the_order_of_rows_nor_their_files_matter(own_set: Path) -> None:
    rows = rows_of(own_set, TRAIN)
    pq.write_table(rows.slice(30), file_of(own_set, TRAIN), write_page_checksum=True)
    second = file_of(own_set, TRAIN).with_name("another.parquet")
    pq.write_table(rows.slice(0, 30).sort_by([(ID, "descending")]), second, row_group_size=7, write_page_checksum=True)
    verify_set(own_set, read_manifest(own_set))


def exchanged(values: list[object]) -> list[object]:
    """The first and the last value change places: they are of different classes, and the counts stay."""
    return [values[-1], *values[1:-1], values[0]]


DAMAGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "two labels exchanged": lambda rows: with_column(rows, LABEL, exchanged(rows[LABEL].to_pylist())),
    "two images exchanged": lambda rows: with_column(rows, IMAGE, exchanged(rows[IMAGE].to_pylist())),
    "zeroed pixels": lambda rows: with_column(rows, IMAGE, [bytes(64)] * len(rows)),
    "a bit of one pixel": lambda rows: with_column(
        rows, IMAGE, [flipped(rows[IMAGE][0].as_py()), *rows[IMAGE].to_pylist()[1:]]
    ),
    "other ids": lambda rows: with_column(rows, ID, pc.add(rows[ID], 1000)),
    "withheld labels added": lambda rows: with_column(rows, HIDDEN_LABEL, [0] * len(rows)),
}


def flipped(image: bytes) -> bytes:
    return bytes([image[0] ^ 1]) + image[1:]


@pytest.mark.parametrize("damage", DAMAGES)
def test_changed_rows_are_refused(own_set: Path, damage: str) -> None:
    rewrite(own_set, TRAIN, DAMAGES[damage])
    assert refusal(own_set).startswith(f"{split_directory(own_set, TRAIN)} has other ids, labels or pixels than")


def test_exchanged_withheld_labels_are_refused(own_set: Path) -> None:
    rewrite(own_set, UNLABELED, lambda rows: with_column(rows, HIDDEN_LABEL, exchanged(rows[HIDDEN_LABEL].to_pylist())))
    assert f"{split_directory(own_set, UNLABELED)} has other ids, labels or pixels" in refusal(own_set)


def test_the_rows_of_another_set_with_the_same_counts_are_refused(own_set: Path, tmp_path: Path) -> None:
    other = write_tiny_set(tmp_path / "other", label_shift=1)
    shutil.copy(file_of(other, TEST), file_of(own_set, TEST))
    assert f"{split_directory(own_set, TEST)} has other ids, labels or pixels" in refusal(own_set)
    assert read_manifest(other).identity != read_manifest(own_set).identity


def test_the_manifest_of_another_set_is_refused(own_set: Path, tmp_path: Path) -> None:
    other = write_tiny_set(tmp_path / "other", label_shift=1)
    shutil.copy(other / "manifest.json", own_set / "manifest.json")
    assert f"than {own_set / 'manifest.json'} was written for" in refusal(own_set)


def test_an_image_in_place_of_another_is_refused(own_set: Path) -> None:
    rewrite(own_set, TRAIN, lambda rows: pa.concat_tables([rows.slice(0, 1), rows.slice(0, len(rows) - 1)]))
    assert "has class counts [25, 12, 3]" in refusal(own_set)


def test_an_id_of_two_images_is_refused(own_set: Path) -> None:
    """With checksums that are right, as a program that makes sets of its own might write them."""
    rewrite(own_set, TRAIN, lambda rows: with_column(rows, ID, [7, *rows[ID].to_pylist()[1:]]))
    change_manifest(own_set, lambda values: values.update(checksums=checksums_of(own_set)))
    assert f"{own_set} has 1 ids of more than one image, such as 7" in refusal(own_set)


def test_a_manifest_without_the_checksum_of_a_split_is_refused(own_set: Path) -> None:
    change_manifest(own_set, lambda values: values["checksums"].pop(TEST))
    assert str(split_directory(own_set, TEST)) in refusal(own_set)


def test_a_split_that_the_manifest_does_not_know_is_refused(own_set: Path) -> None:
    change_manifest(own_set, lambda values: values["counts"].update({VAL: [0, 0, 0]}))
    assert f"{split_directory(own_set, VAL)} has images, its manifest has none" in refusal(own_set)


def test_a_flipped_bit_is_refused_unless_the_rows_stay_the_same(own_set: Path) -> None:
    """The file is named; nothing else than a UserError is raised."""
    generator = np.random.default_rng(0)
    file, manifest = file_of(own_set, TRAIN), read_manifest(own_set)
    whole, rows = file.read_bytes(), rows_of(own_set, TRAIN)
    num_refused = 0
    for position in generator.integers(0, len(whole), 100).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        file.write_bytes(damaged)
        try:
            verify_set(own_set, manifest)
        except UserError as error:
            assert str(file.parent) in str(error)
            num_refused += 1
        else:
            assert rows_of(own_set, TRAIN).equals(rows)
    assert num_refused > 40
