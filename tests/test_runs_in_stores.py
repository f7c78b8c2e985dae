"""Runs in a store: what a training writes there, who may write, and what is refused. The real stores are in
tests/test_stores.py; here it is fsspec's own in memory."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.leases import lease
from longtail.conf.base.locations import location
from longtail.conf.base.new_directories import UNFINISHED, is_finished, new_table_directory
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.training import TrainOptions
from longtail.data.storage import table_files
from longtail.spark_jobs.runs import main as runs
from longtail.spark_jobs.studies.cost import StepTime
from longtail.spark_jobs.studies.report import write_report
from longtail.spark_jobs.studies.results import (
    read_definition,
    read_step_times,
    read_trials,
    write_definition,
    write_step_time,
)
from longtail.spark_jobs.studies.trial_row import TRIAL_SCHEMA
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.event_files.reading import read_event_file
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live.checkpoint import SOURCE_FILE, claim_checkpoint, held_checkpoint, topic_source
from longtail.streaming.tables.published import working_tables
from longtail.training.distributed import Rank
from longtail.training.run import run_training
from longtail.training.run_directory import (
    CHECKPOINT_FILE,
    LEASE_FILE,
    RunPaths,
    begin_attempt,
    exclusive_run,
    finished_run,
    run_paths,
)
from tests.events import class_event
from tests.refusals import refused
from tests.result_rows import write_base
from tests.test_report import EXPERIMENT, GAIN

RUNS = "memory://tests/runs"
CPU = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def empty() -> None:
    StorePath("memory", "tests", "/").remove()


def trained(set_dir: Path, **options: object) -> RunPaths:
    values = {"epochs": 1, "batch_size": 4, "arch": "resnet20", "threads": 1, **options}
    chosen = resolve_options(TrainOptions, {"runs_dir": RUNS, **values}, is_prepared=True)
    paths = run_paths(chosen, set_dir=set_dir)
    with exclusive_run(paths.run_dir):
        run_training(chosen, paths, CPU, attempt=begin_attempt(paths, chosen))
    return paths


def test_a_run_in_a_store_has_what_a_run_has_and_its_checkpoint_can_be_continued_from(
    set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = trained(set_dir)
    names = sorted(str(file).removeprefix(f"{paths.run_dir}/") for file in paths.run_dir.rglob("*"))
    log = next(name for name in names if name.startswith("tensorboard/"))
    assert {"attempts/001.json", CHECKPOINT_FILE, "options.json", "result.json", log} <= {*names}
    assert LEASE_FILE not in names
    events = [file.name.removeprefix(f"{paths.run_dir.name}-attempt001-") for file in paths.events_dir.glob("*")]
    assert sorted(events) == ["epoch00001.parquet", "finished.jsonl", "started.jsonl"]
    finished = finished_run(paths.run_dir)
    assert finished is not None
    assert finished.result["epoch"] == 1
    again = trained(set_dir, resume=str(paths.run_dir / CHECKPOINT_FILE), epochs=2, exp_str="again")
    assert [f.name for f in again.events_dir.glob("*again*epoch*")] == [
        f"{again.run_dir.name}-attempt001-epoch00002.parquet"
    ]
    assert not any(":" in entry.name for entry in tmp_path.rglob("*"))


def test_two_trainings_of_one_run_in_a_store_are_refused_and_a_killed_ones_run_is_free(set_dir: Path) -> None:
    run_dir = location(f"{RUNS}/one")
    with (
        exclusive_run(run_dir),
        pytest.raises(UserError, match=r"another process is working on memory://tests/runs/one \(.*process"),
        exclusive_run(run_dir),
    ):
        raise AssertionError("two work on it")
    assert not run_dir.exists(), "a run without a checkpoint leaves nothing"
    held = {"owner": "elsewhere, process 1, x", "until": time.time() + 60, "machine": "another", "pid": 1}
    write_json_atomically(run_dir / LEASE_FILE, held)
    with pytest.raises(UserError, match="elsewhere, process 1"), exclusive_run(run_dir):
        raise AssertionError("it is held")
    write_json_atomically(run_dir / LEASE_FILE, {**held, "until": time.time() - 60})
    (run_dir / CHECKPOINT_FILE).write_bytes(b"")
    with exclusive_run(run_dir):
        assert json.loads((run_dir / LEASE_FILE).read_text())["owner"] != held["owner"]


def test_a_table_in_a_store_is_unfinished_until_all_of_it_is_written() -> None:
    table = location(f"{RUNS}/table.parquet")
    assert isinstance(table, StorePath)
    with new_table_directory(table) as directory:
        (directory / "part-0.parquet").write_bytes(b"PAR1")
        assert not is_finished(table)
        with pytest.raises(UserError, match="is unfinished: wait for the job"):
            table_files(table)
    assert is_finished(table)
    assert [file.name for file in table_files(table)] == ["part-0.parquet"]
    with pytest.raises(RuntimeError), new_table_directory(table) as directory:
        (directory / "part-1.parquet").write_bytes(b"PAR1")
        raise RuntimeError
    assert not table.exists()
    (table / UNFINISHED).write_bytes(b"")  # of a job that was killed
    with new_table_directory(table) as directory:
        (directory / "part-2.parquet").write_bytes(b"PAR1")
    assert [file.name for file in table_files(table)] == ["part-2.parquet"]


def content(directory: StorePath) -> dict[str, bytes]:
    """All files by path, without what says what happened."""
    files = {str(file).removeprefix(f"{directory}/"): file for file in directory.files_below()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith("trash/")}


@pytest.fixture
def one_run() -> StorePath:
    """A finished run `base` in a store with its directory, events and description, and tables beside it."""
    runs_dir = location(RUNS)
    assert isinstance(runs_dir, StorePath)
    for epoch in (1, 2):
        EventWriter(runs_dir / "events", run="base", attempt=1).write_epoch(epoch, [class_event(epoch=epoch)])
    (runs_dir / "base" / "options.json").write_text("{}")
    (runs_dir / "base" / "attempts" / "001.json").write_text("{}")
    with working_tables(runs_dir / "analytics") as (directory, _):
        write_base(directory)
    runs(["rename", "base", "Mine", "--runs_dir", RUNS])
    return runs_dir


def test_a_run_in_a_store_is_deleted_and_restored_with_its_tables(one_run: StorePath) -> None:
    before = content(one_run)
    assert "analytics/runs/base/manifest.json" in before
    runs(["delete", "base", "--runs_dir", RUNS])
    assert not [name for name in content(one_run) if "base" in name and not name.startswith("analytics/trash/")]
    with refused() as messages:
        runs(["show", "base", "--runs_dir", RUNS])
    assert messages[0].startswith(f"{RUNS} has no run base")
    assert NewFiles(one_run / "events").look() == []
    runs(["restore", "base", "--runs_dir", RUNS])
    assert content(one_run) == before

    runs(["delete", "base", "--purge", "--runs_dir", RUNS])
    assert {name.partition("/")[0] for name in content(one_run)} == {"analytics"}
    with refused() as messages:
        runs(["restore", "base", "--runs_dir", RUNS])
    assert messages[0].startswith(f"the trash of {RUNS} has no run base")


def test_a_list_of_runs_in_a_store_says_how_they_stand(one_run: StorePath, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    runs(["list", "--runs_dir", str(one_run)])
    assert "finished" in capsys.readouterr().out
    runs(["show", "base", "--runs_dir", str(one_run)])
    assert "finished" in capsys.readouterr().out


def test_tables_in_a_store_that_are_named_follow_what_is_done_with_runs_on_the_local_disk(tmp_path: Path) -> None:
    tables = location("memory://tests/tables")
    assert isinstance(tables, StorePath)
    EventWriter(tmp_path / "events", run="base", attempt=1).write_epoch(1, [class_event()])
    with working_tables(tables) as (directory, _):
        write_base(directory)
    before = content(tables)
    named = ["base", "--runs_dir", str(tmp_path), "--tables_dir", str(tables)]
    runs(["delete", *named])
    assert [name for name in content(tables) if "base" in name] == []
    runs(["restore", *named])
    assert content(tables) == before
    with refused() as messages:
        runs(["delete", *named[:-1], f"{tables}/none"])
    assert messages[0].endswith("there is no such directory")


def test_a_run_that_is_trained_in_a_store_is_not_deleted(one_run: StorePath) -> None:
    before = content(one_run)
    with exclusive_run(one_run / "base"), refused() as messages:
        runs(["delete", "base", "--runs_dir", RUNS])
    assert "another process is working on" in messages[0] and content(one_run) == before


def test_a_move_in_a_store_that_was_interrupted_goes_on(one_run: StorePath) -> None:
    source, target = one_run / "base", one_run / "moved"
    (target / "options.json").write_bytes(b"{}")
    (source / "options.json").unlink()
    source.move(target)
    assert sorted(content(target)) == ["attempts/001.json", "options.json"] and not source.exists()


def test_events_in_a_store_are_archived_by_one_process(one_run: StorePath) -> None:
    with lease(one_run / "events" / "archive" / "lease"), refused() as messages:
        runs(["archive", "base", "--runs_dir", RUNS])
    assert "another process is archiving" in messages[0]
    runs(["archive", "base", "--runs_dir", RUNS])
    (archive,) = [name for name in content(one_run) if name.startswith("events/")]
    events = [table for piece in read_event_file(one_run / "events", archive[7:]) for table in piece.events.values()]
    assert sorted(events[0]["epoch"].to_pylist()) == [1, 2]


def test_a_run_is_brought_from_a_store_to_the_local_disk_and_into_a_store(one_run: StorePath, tmp_path: Path) -> None:
    runs(["export", "base", str(tmp_path / "base.zip"), "--runs_dir", RUNS])
    runs(["import", str(tmp_path / "base.zip"), "--runs_dir", str(tmp_path / "local")])
    runs(["import", str(tmp_path / "base.zip"), "--runs_dir", f"{RUNS}_2"])
    before = {name: file for name, file in content(one_run).items() if not name.startswith("analytics/")}
    other = location(f"{RUNS}_2")
    assert isinstance(other, StorePath)
    assert content(other) == before
    local = (file for file in (tmp_path / "local").rglob("*") if file.is_file())
    assert {str(file.relative_to(tmp_path / "local")): file.read_bytes() for file in local} == before
    for arguments in (["export", "base", f"{RUNS}/x.zip", "--runs_dir", RUNS], ["import", f"{RUNS}/x.zip"]):
        with refused() as messages:
            runs(arguments)
        assert "name a file or directory on the local disk" in messages[0]


def test_the_relay_s_state_is_in_the_store_of_its_runs(tmp_path: Path) -> None:
    state, events = location(f"{RUNS}/relay/topic"), tmp_path / "events"
    topic, other = topic_source("events", "c1"), topic_source("events", "c2")
    events.mkdir()
    (events / "base-attempt001-epoch00001.jsonl").write_text("{}")
    with held_checkpoint(state):
        claim_checkpoint(state, topic, new=False)
        with refused() as messages, held_checkpoint(state):
            raise AssertionError("two have it")
        assert messages[0].startswith(f"another process has the checkpoint {state} (")
        new = NewFiles(events, state)
        new.log(new.look())
        assert NewFiles(events, state).look() == []  # after a restart, too
        (state / "offsets" / "0").write_bytes(b"v1")
        (state / "metadata").write_bytes(b"{}")
        with refused() as messages:
            claim_checkpoint(state, other, new=False)
        assert messages[0].startswith(f"{state} belongs to a query on {other.replace('c2', 'c1')}, not on {other}: ")
        claim_checkpoint(state, other, new=True)
        assert NewFiles(events, state).look() == ["base-attempt001-epoch00001.jsonl"]
    assert [file.name for file in state.iterdir()] == [SOURCE_FILE]


def test_results_and_reports_of_experiments_are_in_a_store() -> None:
    results = location(f"{RUNS}/results")
    write_definition(results, EXPERIMENT, name="two")
    table = pa.Table.from_pylist(GAIN[:2], schema=TRIAL_SCHEMA)
    file = results / "trials" / "experiment=two" / "a.parquet"
    write_atomically(file, lambda temporary: pq.write_table(table.drop_columns("copies"), temporary))  # as 0.1 wrote it
    assert read_definition(results, "two") == EXPERIMENT
    rows = read_trials(results, "two")
    assert [(row["seed"], row["levels"], row["accuracy"], row["copies"]) for row in rows] == [
        (0, {"D_U": "none"}, 0.5, None), (1, {"D_U": "none"}, 0.51, None),
    ]  # fmt: skip
    write_step_time(results, StepTime("x", "train", "digits", "resnet20", 5, 1.5))
    assert read_step_times(results)["x"].seconds == 1.5
    directory = results / "reports" / "two"
    for _ in range(2):  # it replaces the last one
        assert write_report(EXPERIMENT, rows, directory) == directory
    assert {"report.html", "report.md", "arms.png"} <= {entry.name for entry in directory.iterdir()}
    assert not (directory / UNFINISHED).exists()
