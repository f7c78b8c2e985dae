"""The result tables as Delta tables (streaming/tables/delta.py), read back with Delta's own reader. No Spark."""

import sys
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from longtail.streaming.tables import delta as delta_tables
from longtail.streaming.tables.delta import DELTA_DIRECTORY, DeltaTables
from longtail.streaming.tables.manifest import RunManifest, list_runs, read_run_manifest
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.writing import write_quarantine, write_run
from tests.analytics import assert_delta_tables_have_the_same_rows, delta_table
from tests.refusals import refused
from tests.result_rows import PLAIN, class_rows, table

RUN = "a+b.c-2_x"


@pytest.fixture
def tables_dir(tmp_path: Path) -> Path:
    """The tables of two runs: two epochs, an alert, a bad line."""
    for run in ("base", RUN):
        manifest = RunManifest(run, {"class_epochs": 1, "epochs": 1000, "steps": 100})
        segments = {
            "class_epochs": {"1": class_rows({0: [0.5]}, run=run), "2": class_rows({0: [0.75]}, run=run, epoch=2)},
            **{name: {"0": table(name, {"run": run})} for name in ("epochs", "steps")},
            **{
                name: {"all": table(name, {"run": run})}
                for name in ("confusion", "pseudo_labels", "unlabeled_estimates", "predictions")
            },
        }
        rows = {name: table(name, {"run": run, "status": "finished"} if name == "runs" else {"run": run}).to_pylist()
                for name in ("runs", "alerts")}  # fmt: skip
        write_run(tmp_path / "tables", manifest, segments, rows)
    bad = pa.Table.from_pylist([{"reason": "no JSON", "line": "x", "source": "f"}], schema=TABLES["quarantine"])
    write_quarantine(tmp_path / "tables", bad)
    return tmp_path / "tables"


def sink_of(tables_dir: Path) -> DeltaTables:
    """As the live query starts one."""
    sink = DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY)
    sink.update(list_runs(tables_dir))
    return sink


def versions(tables_dir: Path) -> dict[str, int]:
    return {name: delta_table(tables_dir, name).version() for name in TABLES}


def test_a_delta_reader_finds_the_rows_of_every_table(tables_dir: Path) -> None:
    sink_of(tables_dir)
    assert all(len(pa.table(delta_table(tables_dir, name).to_pyarrow_table())) for name in TABLES)
    assert_delta_tables_have_the_same_rows(tables_dir)
    assert set(versions(tables_dir).values()) == {1}  # created, then both runs at once


def test_an_update_replaces_what_changed_and_nothing_else(tables_dir: Path) -> None:
    sink = sink_of(tables_dir)
    before = versions(tables_dir)
    changed = class_rows({0: [0.25]}, run=RUN, epoch=2)
    write_run(tables_dir, read_run_manifest(tables_dir, RUN), {"class_epochs": {"2": changed}}, {"alerts": []})

    sink.update([RUN])
    sink.update([RUN])  # as after a kill between the sink and Spark's checkpoint

    assert_delta_tables_have_the_same_rows(tables_dir)
    assert versions(tables_dir) == {**before, "class_epochs": 2, "alerts": 2}
    of_epoch_before = deltalake.DeltaTable(str(tables_dir / "delta" / "class_epochs"), version=1).to_pyarrow_table()
    assert sorted(pa.table(of_epoch_before)["accuracy"].to_pylist()) == [0.5, 0.5, 0.75, 0.75]


def test_a_sink_that_starts_again_adds_what_it_missed_and_nothing_twice(tables_dir: Path) -> None:
    sink_of(tables_dir)
    before = versions(tables_dir)
    sink_of(tables_dir)
    assert versions(tables_dir) == before
    write_run(tables_dir, read_run_manifest(tables_dir, "base"), {"epochs": {"0": table("epochs", {"loss": 2.0})}}, {})
    sink_of(tables_dir)
    assert_delta_tables_have_the_same_rows(tables_dir)
    assert versions(tables_dir) == {**before, "epochs": 2}


def test_files_that_a_cut_short_update_left_are_used(tables_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_of(tables_dir)
    changed = table("epochs", {"loss": 2.0}, {"epoch": 2})
    write_run(tables_dir, read_run_manifest(tables_dir, "base"), {"epochs": {"0": changed}}, {"alerts": []})
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(DeltaTables, "_removal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        sink.update(["base"])
    sink_of(tables_dir).update(["base"])
    assert_delta_tables_have_the_same_rows(tables_dir)


def test_on_a_file_system_without_links_files_are_copied(tables_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(delta_tables.os, "link", no_links)
    sink_of(tables_dir)
    assert_delta_tables_have_the_same_rows(tables_dir)


def test_a_reader_of_one_run_opens_its_files_only(tables_dir: Path) -> None:
    sink_of(tables_dir)
    for file in (tables_dir / "delta" / "epochs" / "base").iterdir():
        file.unlink()
        file.write_text("not read")
    found = delta_table(tables_dir, "epochs").to_pyarrow_table(filters=[("run", "=", RUN)])
    assert pa.table(found)["loss"].to_pylist() == [PLAIN["epochs"]["loss"]]


def test_the_log_and_given_up_files_do_not_grow_without_end(tables_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_tables, "RETENTION", "interval 0 hours")
    monkeypatch.setattr(delta_tables, "TRANSACTIONS_PER_CLEANING", 5)
    sink = sink_of(tables_dir)
    counts = []
    for number in range(60):
        changed = table("epochs", {"loss": float(number)})
        write_run(tables_dir, read_run_manifest(tables_dir, "base"), {"epochs": {"0": changed}}, {})
        sink.update(["base"])
        counts.append(len(list((tables_dir / "delta" / "epochs" / "base").iterdir())))
    assert max(counts[30:]) <= max(counts[:30]) <= 12
    assert_delta_tables_have_the_same_rows(tables_dir)


def test_delta_tables_carry_their_format_version_and_newer_ones_are_refused(
    tables_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(delta_tables, "TABLES_FORMAT_VERSION", 2)
        patched.setattr(delta_tables, "check_tables_version", lambda *_: None)
        sink_of(tables_dir)
    assert delta_table(tables_dir, "epochs").metadata().description == "longtail result table, format version 2"
    with refused() as messages:
        sink_of(tables_dir)
    assert "delta/runs has the format version 2, this version of Longtail reads up to 1" in messages[0]


def test_without_the_extra_it_is_refused_with_the_mend(tables_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with refused() as messages:
        sink_of(tables_dir)
    assert "pip install 'longtail[delta]'" in messages[0]
