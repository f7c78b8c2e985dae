"""The result tables on disk (streaming/tables/reading.py): one moment or the next, for every reader. No Spark."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.live.quarantine import Quarantine
from longtail.streaming.tables import writing
from longtail.streaming.tables.liveness import Liveness
from longtail.streaming.tables.manifest import (
    RunManifest,
    check_format_versions,
    list_runs,
    read_run_manifest,
    run_directory,
)
from longtail.streaming.tables.reading import latest_epochs, read_result_table
from longtail.streaming.tables.schemas import TABLES, TABLES_FORMAT_VERSION
from longtail.streaming.tables.writing import write_liveness, write_run
from longtail.training.heartbeat import Heartbeat, heartbeat_file
from tests.refusals import refused


def epochs(run: str, *numbers: int, accuracy: float = 0.5) -> pa.Table:
    rows = [{"run": run, "split": "test", "epoch": number, "accuracy": accuracy} for number in numbers]
    return pa.Table.from_pylist(rows, schema=TABLES["epochs"])


def state(run: str, **changes: Any) -> dict[str, Any]:
    plain = {"run": run, "attempt": 1, "phase": "train", "status": "running", "started_at": 0.0, "updated_at": 100.0}
    return {**plain, "epoch": 1, "num_epochs": 3, "configuration": "{}", "message": "", "status_at": 0.0, **changes}


def write(tables_dir: Path, run: str, segments: dict[str, pa.Table], **rows: list[dict[str, Any]]) -> None:
    manifest = read_run_manifest(tables_dir, run) or RunManifest(run, {"epochs": 2})
    write_run(tables_dir, manifest, {"epochs": segments}, rows)


def test_a_table_is_read_of_one_run_or_of_all_and_is_empty_without_any(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    for name, schema in TABLES.items():
        assert read_result_table(tmp_path, name).schema == schema
    write(tmp_path, "base", {"0": epochs("base", 1), "1": epochs("base", 2, 3)}, runs=[state("base")])
    write(tmp_path, "semi", {"0": epochs("semi", 1)}, runs=[state("semi")])

    assert list_runs(tmp_path) == ["base", "semi"]
    assert sorted(read_result_table(tmp_path, "epochs", "base")["epoch"].to_pylist()) == [1, 2, 3]
    assert read_result_table(tmp_path, "epochs").num_rows == 4
    assert read_result_table(tmp_path, "epochs", columns=["run"]).column_names == ["run"]
    assert read_result_table(tmp_path, "runs")["run"].to_pylist() == ["base", "semi"]
    assert read_result_table(tmp_path, "epochs", "unheard_of").num_rows == 0


def test_a_segment_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    write(tmp_path, "base", {"0": epochs("base", 1), "1": epochs("base", 2)})
    before = read_run_manifest(tmp_path, "base").files["epochs"]

    write(tmp_path, "base", {"1": epochs("base", 2, 3)})

    after = read_run_manifest(tmp_path, "base").files["epochs"]
    assert after["0"] == before["0"] and after["1"] != before["1"]
    assert sorted(read_result_table(tmp_path, "epochs", "base")["epoch"].to_pylist()) == [1, 2, 3]
    # What no manifest names is gone.
    kept = {file.name for file in run_directory(tmp_path, "base").iterdir()}
    assert kept == {"manifest.json", *after.values()}


def test_what_a_writer_left_that_was_killed_before_the_manifest_is_not_read_and_goes(tmp_path: Path) -> None:
    write(tmp_path, "base", {"0": epochs("base", 1)})
    (file,) = run_directory(tmp_path, "base").glob("*.parquet")
    orphan = file.with_name("epochs-0-00000000.parquet")
    orphan.write_bytes(file.read_bytes())
    (tmp_path / "runs" / "begun").mkdir()

    assert list_runs(tmp_path) == ["base"]
    assert read_result_table(tmp_path, "epochs", "base").num_rows == 1
    write(tmp_path, "base", {"0": epochs("base", 1, 2)})
    assert not orphan.exists()


def test_a_reader_sees_one_moment_or_the_next_while_the_tables_change(tmp_path: Path) -> None:
    write(tmp_path, "base", {"0": epochs("base", 0, 1, accuracy=0.0), "1": epochs("base", 2, accuracy=0.0)})
    stop = threading.Event()

    def keep_writing() -> None:
        for value in range(1, 10_000):
            if stop.is_set():
                return
            both = {str(s): epochs("base", *numbers, accuracy=float(value)) for s, numbers in ((0, (0, 1)), (1, (2,)))}
            write(tmp_path, "base", both)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        seen = [read_result_table(tmp_path, "epochs", "base") for _ in range(100)]
    finally:
        stop.set()
        writer.join()

    assert all(table.num_rows == 3 and len(table["accuracy"].unique()) == 1 for table in seen)
    assert len({table["accuracy"][0].as_py() for table in seen}) > 1


def test_a_bad_line_is_in_the_quarantine_once_wherever_and_however_often_it_was_read(tmp_path: Path) -> None:
    torn = '{"kind": "class", "run": "base", "att'
    rows = [("torn", torn, "x"), ("torn", "{", "x"), ("torn", torn, "topic, partition 0, offset 7")]
    lines = pa.Table.from_pylist([dict(zip(("reason", "line", "source"), row, strict=True)) for row in rows])
    for _ in range(2):  # as after a restart
        quarantine = Quarantine(tmp_path)
        quarantine.add(lines)
        quarantine.add(lines)

    expected = [("torn", torn, "x", "base"), ("torn", "{", "x", None)]
    assert [tuple(row.values()) for row in read_result_table(tmp_path, "quarantine").to_pylist()] == expected
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_bad_lines_of_many_batches_are_in_few_files_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "QUARANTINE_FILE_LINES", 4)
    quarantine, directory = Quarantine(tmp_path), tmp_path / "quarantine"

    def add(*texts: str) -> None:
        quarantine.add(pa.table({"reason": ["torn"] * len(texts), "line": texts, "source": ["x"] * len(texts)}))

    replaced = []
    for number in range(10):
        replaced += [(file, file.read_bytes()) for file in directory.iterdir()] if number else []
        add(str(number), "0")
    assert sorted(file.name for file in directory.iterdir()) == [
        "lines-000000-000003.parquet", "lines-000001-000003.parquet", "lines-000002-000001.parquet",
    ]  # fmt: skip
    for file, content in replaced:  # a kill before they are removed leaves them
        file.write_bytes(content)
    shutil.copy(directory / "lines-000002-000001.parquet", directory / "lines-of_somebody_else.parquet")
    for read in (read_result_table, lambda directory, name: TableReader(directory).read(name)):
        assert read(tmp_path, "quarantine")["line"].to_pylist() == [str(number) for number in range(10)]
    next(directory.glob("lines-000002-000001*")).write_bytes(b"damaged")
    add("more")
    assert read_result_table(tmp_path, "quarantine")["line"].to_pylist() == [*map(str, range(8)), "more"]


def statuses(tables_dir: Path, *, now: float) -> dict[str, tuple[str, str]]:
    rows = read_result_table(tables_dir, "runs", now=now).to_pylist()
    return {row["run"]: (row["status"], row["message"]) for row in rows}


def test_a_run_that_neither_ended_nor_was_heard_of_is_lost(tmp_path: Path) -> None:
    for run, status, updated_at in (("a", "running", 100.0), ("b", "finished", 100.0), ("c", "running", 150.0)):
        write(tmp_path, run, {}, runs=[state(run, status=status, updated_at=updated_at)])
    alert = {"run": "c", "split": "test", "epoch": 1, "rule": "plateau", "message": "no gain"}
    write(tmp_path, "c", {}, alerts=[alert])

    assert read_result_table(tmp_path, "alerts", now=170.0).to_pylist() == [alert]  # no rule of silence yet
    assert not Liveness(silent_seconds=1).alerts(pa.Table.from_pylist([{"status": "finished"}]), now=170.0).num_rows
    assert statuses(tmp_path, now=170.0)["a"] == ("running", "")
    write_liveness(tmp_path, silent_seconds=60, runs_dir=tmp_path / "elsewhere")
    since = "no event since 1970-01-01 00:01:40 UTC"
    silent = {"run": "a", "split": "", "epoch": 1, "rule": "run_silent", "message": since}
    assert read_result_table(tmp_path, "alerts", now=170.0).to_pylist() == [alert, silent]
    assert statuses(tmp_path, now=170.0) == {"a": ("lost", since), "b": ("finished", ""), "c": ("running", "")}
    assert read_result_table(tmp_path, "runs", columns=["status"], now=170.0).to_pylist()[0] == {"status": "lost"}
    assert read_result_table(tmp_path, "alerts", now=160.0).to_pylist() == [alert]
    assert statuses(tmp_path, now=160.0)["a"] == ("running", "")
    assert read_result_table(tmp_path, "alerts", "b", now=9999.0).to_pylist() == []

    write(tmp_path, "a", {}, runs=[state("a", updated_at=165.0)])  # it speaks again

    assert statuses(tmp_path, now=170.0)["a"] == ("running", "")


def test_a_run_whose_heartbeat_stopped_is_lost_at_once_and_one_that_hangs_is_silent(tmp_path: Path) -> None:
    tables_dir, runs_dir = tmp_path / "runs" / "analytics", tmp_path / "runs"
    heartbeat = Heartbeat(runs_dir / "a" / "heartbeats", rank=0)
    (file,) = [heartbeat_file(runs_dir / "a" / "heartbeats", 0)]
    write(tables_dir, "a", {}, runs=[state("a", updated_at=1000.0)])
    write_liveness(tables_dir, silent_seconds=900, runs_dir=runs_dir)

    def is_at(*, heartbeat: float, now: float) -> tuple[str, list[str]]:
        os.utime(file, (heartbeat, heartbeat))
        alerts = read_result_table(tables_dir, "alerts", now=now)["message"].to_pylist()
        return statuses(tables_dir, now=now)["a"][0], alerts

    with heartbeat:
        assert is_at(heartbeat=2000.0, now=2010.0) == ("running", ["no event for 1010 s"])
        assert is_at(heartbeat=1100.0, now=1120.0) == ("running", [])
        gone = "its process is gone: no heartbeat since 1970-01-01 00:18:20 UTC"
        assert is_at(heartbeat=1100.0, now=1131.0) == ("lost", [gone])
        assert is_at(heartbeat=900.0, now=1029.0) == ("running", [])  # on a full disk events go on
        assert is_at(heartbeat=900.0, now=950.0) == ("lost", [gone.replace("18:20", "15:00")])  # an event of the future
        assert is_at(heartbeat=1140.0, now=1141.0) == ("running", [])  # it was stopped, and goes on
        (tmp_path / "runs").rename(tmp_path / "moved")
        assert statuses(tmp_path / "moved" / "analytics", now=1141.0)["a"][0] == "running"
        (tmp_path / "moved").rename(tmp_path / "runs")
    assert statuses(tables_dir, now=1141.0)["a"] == ("lost", "its process is gone: no heartbeat")

    (runs_dir / "a" / "result.json").touch()  # it was killed before it could say that it had finished

    assert statuses(tables_dir, now=1141.0)["a"] == ("finished", "")
    assert not read_result_table(tables_dir, "alerts", now=1141.0).num_rows


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 201])
def test_no_name_leads_out_of_the_tables(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid name of a run"):
        read_result_table(tmp_path, "epochs", name)


def test_tables_of_a_newer_format_are_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "base", {"0": epochs("base", 1)})
    file = run_directory(tmp_path, "base") / "manifest.json"
    content = json.loads(file.read_text())
    assert content["format_version"] == TABLES_FORMAT_VERSION == 1
    file.write_text(json.dumps({**content, "format_version": 2}))

    for read in (lambda: read_result_table(tmp_path, "epochs"), lambda: check_format_versions(tmp_path)):
        with refused() as messages:
            read()
        assert f"{file} has the format version 2, this version of Longtail reads up to 1: upgrade" in messages[0]


def test_a_column_that_an_older_version_did_not_write_is_null(tmp_path: Path) -> None:
    write(tmp_path, "base", {"0": epochs("base", 1)})
    (file,) = run_directory(tmp_path, "base").glob("epochs-*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["loss", "accuracy"]), file)

    (row,) = read_result_table(tmp_path, "epochs", columns=["epoch", "loss"]).to_pylist()

    assert row == {"epoch": 1, "loss": None}
    assert read_result_table(tmp_path, "epochs").schema == TABLES["epochs"]


def test_the_latest_epoch_is_that_of_each_run_and_split() -> None:
    table = pa.concat_tables([epochs("base", 1, 3, 2), epochs("semi", 1)])

    found = latest_epochs(table)

    assert {(row["run"], row["epoch"]) for row in found.to_pylist()} == {("base", 3), ("semi", 1)}
