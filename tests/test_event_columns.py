"""Events as columns (streaming/parsing/columns.py): what is written is read, and what is no event becomes a line."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.base import parquet_sizes
from longtail.streaming.events.archives import archive_rows, archived_names, archived_sources
from longtail.streaming.events.columns import EVENT_COLUMNS, write_event_columns
from longtail.streaming.events.schema import EVENT_KINDS, ClassEvent, Event, RunEvent, StepEvent, later_fields
from longtail.streaming.parsing.columns import MAX_ROWS, NotEventColumns, checked_events, event_rows
from tests.events import PLAIN, an_event, class_event


def read(file: Path) -> tuple[dict[str, pa.Table], pa.Table]:
    return checked_events(event_rows(pa.py_buffer(file.read_bytes()), file.name))


def test_all_kinds_of_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    events = [
        *PLAIN.values(),
        an_event(ClassEvent, class_name='naïve "x"\n名前', loss_sum=math.inf, confidence_sum=5e-324),
    ]
    write_event_columns(tmp_path / "e.parquet", events)

    found, others = read(tmp_path / "e.parquet")

    assert others.num_rows == 0 and list(found) == list(EVENT_KINDS)
    for kind in EVENT_KINDS.values():
        assert found[kind.kind].to_pylist() == [dataclasses.asdict(event) for event in events if type(event) is kind]


def test_an_epoch_of_8142_classes_is_less_than_a_megabyte(tmp_path: Path) -> None:
    events: list[Event] = [
        class_event(split=split, class_id=c, class_name=f"genus{c // 7} species{c}", train_count=1 + 1000 // (c + 1),
                    loss_sum=math.sin(c) + 2, confidence_sum=math.cos(c) + 2)
        for split in ("val", "test", "train") for c in range(8142)
    ]  # fmt: skip
    write_event_columns(tmp_path / "e.parquet", events)

    assert (tmp_path / "e.parquet").stat().st_size < 1e6
    assert read(tmp_path / "e.parquet")[0]["class"].num_rows == len(events)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *[(ClassEvent, change) for change in [
            {"correct": 5}, {"support": -1}, {"support": 10**12, "correct": 0}, {"attempt": 0}, {"attempt": None},
            {"run": "../../etc"}, {"run": None}, {"run": "a\n"}, {"epoch": 4}, {"class_id": 10**5}, {"split": "dev"},
            {"shot_group": None}, {"emitted_at": math.nan}, {"emitted_at": 253_402_300_800.0}, {"step": 1},
            {"class_name": "x" * 4097}, {"format_version": 3}, {"format_version": None}, {"kind": "other"},
            {"kind": None}, {"loss_sum": None}, {"images_per_second": -1.0},
        ]],
        (StepEvent, {"step": 11}), (RunEvent, {"configuration": "{} {}"}), (RunEvent, {"configuration": "[1]"}),
        (RunEvent, {"configuration": '{"rate": NaN}'}), (RunEvent, {"state": "sleeping"}),
    ],
)  # fmt: skip
def test_a_row_that_is_no_event_becomes_its_line_and_stops_no_other(
    tmp_path: Path, kind: type[Event], changes: dict[str, Any]
) -> None:
    bad = {**dataclasses.asdict(PLAIN[kind]), **changes}
    rows = [*map(dataclasses.asdict, PLAIN.values()), bad]
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENT_COLUMNS), tmp_path / "e.parquet")

    found, others = read(tmp_path / "e.parquet")

    assert [table.num_rows for table in found.values()] == [1] * len(EVENT_KINDS)
    assert others["source"].to_pylist() == ["e.parquet"]
    line = json.loads(others["value"][0].as_py())
    said = {name: value for name, value in bad.items() if value is not None}
    assert line == said or math.isnan(said["emitted_at"])


def test_a_file_that_lacks_later_fields_is_read_with_null(tmp_path: Path) -> None:
    row = {**dataclasses.asdict(PLAIN[ClassEvent]), "format_version": 1}
    older = {name: value for name, value in row.items() if name not in later_fields(ClassEvent)}
    schema = pa.schema([EVENT_COLUMNS.field(name) for name in older])
    pq.write_table(pa.Table.from_pylist([older], schema=schema), tmp_path / "e.parquet")

    found, others = read(tmp_path / "e.parquet")

    assert found["class"].to_pylist() == [row] and row["learning_rate"] is None and not others.num_rows


def test_a_file_of_other_content_is_refused_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    write_event_columns(file, [class_event()])
    whole = file.read_bytes()
    table = pq.read_table(file)
    contents: dict[str, bytes | pa.Table] = {
        "empty": b"", "text": b"{}\n", "cut": whole[:-20], "bit": whole[:8] + bytes([whole[8] ^ 255]) + whole[9:],
        "other column": table.append_column("more", pa.array([1])),
        "other type": table.set_column(table.column_names.index("support"), "support", pa.array([4.0])),
        "nested": pa.table({"run": [["a"]]}),
        "too many rows": pa.table({"support": pa.nulls(MAX_ROWS + 1, pa.int64())}),
        "too much text": pa.table({"message": pa.repeat("x" * 2**20, 300)}),
    }  # fmt: skip
    for name, content in contents.items():
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            pq.write_table(content, file)
        with pytest.raises(NotEventColumns, match="no Parquet file of events"):
            read(file)
            pytest.fail(name)


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (pa.array(["x" * 2**20, "y"] * 2), {"use_dictionary": False}),
        (pa.array(["x" * 2**19] * 8), {}),
        (pa.nulls(10**6, pa.string()), {}),
    ],
    ids=["a page", "a repeated text", "rows"],
)
def test_a_small_file_that_would_take_much_memory_is_refused_with_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: pa.Array, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(parquet_sizes, "FREE_BYTES", 2**21)
    file = tmp_path / "e.parquet"
    pq.write_table(pa.table({"source": column}), file, compression="zstd", **options)
    assert file.stat().st_size < 4000
    with pytest.raises(NotEventColumns, match="no Parquet file of events"):
        read(file)
    with pytest.raises(ValueError, match="bytes"):
        archived_sources(file)


def test_a_pipe_in_the_place_of_an_archive_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(file := tmp_path / "run@000001-1a2b3c4d.parquet")
    for read_archive in (archived_names, archived_sources, archive_rows):
        with pytest.raises(OSError, match="not a regular file"):
            read_archive(file)
