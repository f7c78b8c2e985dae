"""Tables and manifests of wrong types and values are refused by one line that names the file."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.base import parquet_sizes
from longtail.data.contract import CONFIDENCE, ID, PROBABILITIES, PSEUDO_LABEL, PSEUDO_LABEL_SCHEMA, ROUND
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from longtail.data.row_groups import RowGroup, read_columns_of_group
from longtail.streaming.tables.manifest import read_run_manifest
from longtail.training.run_directory import finished_run
from tests.conftest import REPOSITORY
from tests.refusals import refused
from tests.tiny_set import write_tiny_set

WRITTEN = REPOSITORY / "tests" / "written_by_0.2"
COLUMNS: dict[str, Any] = {
    ID: [5, 2, 9],
    PSEUDO_LABEL: [0, 1, 1],
    CONFIDENCE: [0.5, 0.75, 1.0],
    PROBABILITIES: [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]],
    ROUND: [1, 1, 1],
}


def written(directory: Path, file_name: str = "part.parquet", **changes: pa.Array) -> Path:
    columns = {name: pa.array(values, PSEUDO_LABEL_SCHEMA.field(name).type) for name, values in COLUMNS.items()}
    pq.write_table(pa.table({**columns, **changes}), directory / file_name)
    return directory


def load(table: Path) -> None:
    load_pseudo_labels(table)
    load_probabilities(table)
    load_round(table)


def test_columns_of_other_types_that_hold_the_same_numbers_are_read(tmp_path: Path) -> None:
    written(
        tmp_path,
        pseudo_label=pa.array([0, 1, 1], pa.int64()),
        confidence=pa.array([0.5, 0.75, 1.0]),
        probabilities=pa.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], pa.large_list(pa.float64())),
    )
    ids, labels, confidences = load_pseudo_labels(tmp_path)
    assert (ids.tolist(), labels.tolist(), confidences.tolist()) == ([2, 5, 9], [1, 0, 1], [0.75, 0.5, 1.0])
    assert load_probabilities(tmp_path).tolist() == [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(
    "changes",
    [
        {ID: pa.array(["a", "b", "c"])},
        {ID: pa.array([1, None, 2])},
        {PSEUDO_LABEL: pa.array([2**40, 0, 0])},
        {PSEUDO_LABEL: pa.array([0.5, 0.0, 0.0])},
        {PSEUDO_LABEL: pa.array([0, -1, 0])},
        {PSEUDO_LABEL: pa.array([[0], [1], [1]])},
        {CONFIDENCE: pa.array([0.5, None, 0.5])},
        {CONFIDENCE: pa.array([0.5, float("nan"), 0.5])},
        {CONFIDENCE: pa.array([0.5, 1.5, 0.5])},
        {PROBABILITIES: pa.array([0.5, 0.5, 0.5])},
        {PROBABILITIES: pa.array([[0.5, 0.5], [0.5], []])},
        {PROBABILITIES: pa.array([[], [], []], pa.list_(pa.float32()))},
        {PROBABILITIES: pa.array([[0.5, None], [0.5, 0.5], [0.5, 0.5]])},
        {PROBABILITIES: pa.array([[0.5, float("inf")], [0.5, 0.5], [0.5, 0.5]])},
        {ROUND: pa.array([1, 1, 2])},
        {ROUND: pa.array([b"\xff"] * 3)},
    ],
    ids=lambda changes: f"{next(iter(changes))}-{next(iter(changes.values())).to_pylist()}",
)
def test_a_table_of_pseudo_labels_with_other_types_or_values_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with refused() as messages:
        load(written(tmp_path, **changes))
    assert messages[0].startswith(f"{tmp_path} ")


def test_files_of_a_table_with_different_columns_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, "other.parquet", confidence=pa.array(["high"] * 3))
    with refused() as messages:
        load(tmp_path)
    assert "have different columns" in messages[0]


def pages_of_zeros(file: Path) -> None:
    """100 values of 20 kB in 300 bytes."""
    rows = pa.table({"image": [b"\0" * 20_000] * 100})
    pq.write_table(rows, file, compression="zstd", use_dictionary=False, data_page_size=2**24)


def a_page_that_lies(file: Path) -> None:
    """It says to have 2 GiB in memory; the file's description does not."""
    rows = pa.table({"image": [bytes(range(50))] * 2})
    pq.write_table(rows, file, compression="zstd", use_dictionary=False, write_page_checksum=True)
    chunk, content = pq.ParquetFile(file).metadata.row_group(0).column(0), bytearray(file.read_bytes())
    start, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
    # Thrift: type 0, size in memory (2 bytes), size in the file (2), checksum (up to 5), ...
    header, data = bytes(content[start:end]).split(b"\x28\xb5\x2f\xfd")
    sizes = re.fullmatch(rb"\x15\x00\x15..(\x15.[\x00-\x7f]?)\x15[\x80-\xff]+.\x1c(.*)\x00", header, re.DOTALL)
    assert sizes is not None
    changed = b"\x15\x00\x15\xfe\xff\xff\xff\x0f" + sizes[1] + b"\x2c" + sizes[2]
    others = b"\x51" + b"\x11" * 20  # fields that no reader knows, for the length
    content[start:end] = changed + others[: len(header) - len(changed) - 1] + b"\x00\x28\xb5\x2f\xfd" + data
    file.write_bytes(content)


def one_value_for_all_rows(file: Path) -> None:
    rows = pa.table({"image": [b"\0" * 20_000] * 100})
    pq.write_table(rows, file, compression="zstd", use_dictionary=True)


@pytest.mark.parametrize(
    ("write", "needed"),
    [(pages_of_zeros, "1.9 MiB"), (a_page_that_lies, "2048.0 MiB"), (one_value_for_all_rows, "1.9 MiB")],
)
def test_a_small_file_that_would_take_much_memory_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], needed: str
) -> None:
    monkeypatch.setattr(parquet_sizes, "FREE_BYTES", 2**20)
    file = tmp_path / "a.parquet"
    write(file)
    with refused() as messages:
        read_columns_of_group(RowGroup(file, 0, 100), ["image"])
    assert f"bytes that would take {needed} of memory or more): run the job that writes it again" in messages[0]
    assert messages[0].startswith(f"{file} is damaged (")


def test_different_images_that_another_program_kept_in_a_dictionary_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyarrow does by default; all of them in each row would take 26 MiB, but none is there twice."""
    monkeypatch.setattr(parquet_sizes, "FREE_BYTES", 2**20)
    monkeypatch.setattr(parquet_sizes, "MOST_TIMES", 50)
    rows = pa.table({"image": [bytes([i, j]) * 200 for i in range(26) for j in range(10)]})
    pq.write_table(rows, file := tmp_path / "a.parquet", compression=None, use_dictionary=True)

    read = read_columns_of_group(RowGroup(file, 0, 260), ["image"])

    assert read["image"].num_chunks > 1, "it was read at once"
    assert read["image"].to_pylist() == rows["image"].to_pylist()


def test_a_large_value_that_rows_repeat_is_read_in_few_rows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_value_for_all_rows(tmp_path / "a.parquet")
    parquet = pq.ParquetFile(tmp_path / "a.parquet")
    asked = {"file": tmp_path / "a.parquet", "group": 0, "most": 256}
    assert parquet_sizes.rows_at_once(parquet, ["image"], **asked) == 256
    monkeypatch.setattr(parquet_sizes, "FREE_BYTES", 100_000)
    assert parquet_sizes.rows_at_once(parquet, ["image"], **asked) == 4  # of 20,004 bytes


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}], ids=str)
def test_the_sizes_of_pages_are_those_of_the_file_s_description(tmp_path: Path, options: dict[str, Any]) -> None:
    """Of pages of all kinds, without the 20 to 60 bytes of their headers."""
    rows = pa.table({"image": [bytes([i % 7]) * 500 for i in range(4000)], "id": range(4000)})
    pq.write_table(rows, file := tmp_path / "a.parquet", data_page_size=4096, write_statistics=False, **options)
    parquet = pq.ParquetFile(file)
    for place in range(2):
        described = parquet.metadata.row_group(0).column(place)
        start = described.dictionary_page_offset or described.data_page_offset
        pages = list(parquet_sizes._pages(file.read_bytes(), start, start + described.total_compressed_size))
        headers = described.total_uncompressed_size - sum(size for _, size in pages)
        assert 15 * len(pages) < headers < 80 * len(pages)
        assert (pages[0][0] == 2) == described.has_dictionary_page


def test_a_pipe_in_the_place_of_a_parquet_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.parquet")
    with refused() as messages:
        load(tmp_path)
    assert "not a regular file" in messages[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counts", {"train": [1]}),
        ("counts", None),
        ("class_names", "abc"),
        ("class_names", [1, 2]),
        ("image_shape", [8, 8]),
        ("image_shape", [8, 0, 1]),
        ("image_shape", ["8", "8", "1"]),
        ("channel_mean", [float("nan")]),
        ("num_classless", -1),
        ("num_classless", True),
        ("checksums", ["a"]),
        ("parameters", []),
        ("unknown", 1),
        ("format_version", "1"),
    ],
)
def test_a_manifest_with_a_field_of_another_type_is_refused(tmp_path: Path, field: str, value: object) -> None:
    values = json.loads((WRITTEN / "prepared_set" / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**values, field: value}))
    with refused() as messages:
        read_manifest(tmp_path)
    assert messages[0].startswith(f"{tmp_path}/manifest.json ")
    assert f"delete {tmp_path} and run `longtail prepare` again" in messages[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"channel_mean": [0.9]},
        {"channel_std": [0.0]},
        {"channel_std": [-1.0]},
        {"channel_mean": [0.1, 0.2, 0.3], "channel_std": [1.0, 1.0, 1.0]},
        {"image_shape": [4, 16, 1]},
        {"class_names": ["class 2", "class 1", "class 0"]},
        {"class_names": ["class 0", "class 0", "class 1"]},
        {"parameters": {}},
        {"format_version": 1},
    ],
    ids=str,
)
def test_a_manifest_that_was_changed_by_hand_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    """The checksums of the rows would still be right."""
    write_tiny_set(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with refused() as messages:
        read_manifest(tmp_path)
    assert messages[0].startswith(f"{file} is damaged (")


def test_a_manifest_without_its_own_checksum_is_of_the_first_format_or_refused(tmp_path: Path) -> None:
    assert read_manifest(WRITTEN / "prepared_set").format_version == 1
    write_tiny_set(tmp_path)
    file = tmp_path / "manifest.json"
    values = json.loads(file.read_text())
    del values["own_checksum"]
    file.write_text(json.dumps(values))
    with refused() as messages:
        read_manifest(tmp_path)
    assert "it was changed after it was written" in messages[0]


SCORES = {
    **dict.fromkeys(["accuracy", "balanced_accuracy", "macro_f1"], 0.5),
    **dict.fromkeys(["many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy"]),
    "class_accuracy": [0.5, None],
    "totals": {"support": [1.0, 0.0]},
}
RESULT = {
    "run": "a",
    "phase": "train",
    "epoch": 1,
    "class_names": ["a", "b"],
    "class_counts": [1, 1],
    "pseudo_label_round": 0,
    "shot_groups": ["few", "few"],
    "best_on_validation": None,
    "chosen_on_validation": {},
    "splits": {"test": SCORES},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"splits": []},
        {"splits": {"test": {}}},
        {"splits": {"test": {**SCORES, "accuracy": float("nan")}}},
        {"splits": {"test": {**SCORES, "confusion": {"target": [0]}}}},
        {"epoch": float("inf")},
        {"class_names": None},
        {"run": 3},
    ],
    ids=str,
)
def test_a_damaged_result_is_refused_by_name(tmp_path: Path, changed: dict[str, object]) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    assert finished_run(tmp_path) is not None
    file.write_text(json.dumps({**RESULT, **changed}))
    with refused() as messages:
        finished_run(tmp_path)
    assert messages[0].startswith(f"{file} is damaged (")
    assert messages[0].endswith("delete it and run again")


@pytest.mark.parametrize("content", ["[" * 100_000, "3", "", "{", "\ud800", "1" * 5000])
def test_json_that_is_damaged_or_nested_without_end_is_refused(tmp_path: Path, content: str) -> None:
    for name in ("manifest.json", "result.json"):
        (tmp_path / name).write_bytes(content.encode(errors="surrogatepass"))
    with refused():
        read_manifest(tmp_path)
    with refused() as messages:
        finished_run(tmp_path)
    assert messages[0].startswith(f"{tmp_path}/result.json is damaged")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "other"),
        ("files", {"epochs": {"0": "../../../secret.parquet"}}),
        ("files", [1]),
        ("segment_epochs", {"epochs": 0}),
        ("segment_epochs", {"epochs": "1"}),
        ("rows", {"runs": ["x"]}),
        ("format_version", 99),
    ],
)
def test_a_manifest_of_live_tables_with_wrong_fields_is_refused(tmp_path: Path, field: str, value: object) -> None:
    shutil.copytree(WRITTEN / "tables", tmp_path / "tables")
    (file,) = (tmp_path / "tables").glob("runs/*/manifest.json")
    run = file.parent.name
    assert read_run_manifest(tmp_path / "tables", run) is not None
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with refused() as messages:
        read_run_manifest(tmp_path / "tables", run)
    assert messages[0].startswith(f"{file} ")
