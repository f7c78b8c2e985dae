"""A live query follows what users do with runs and files while it runs, and at its next start."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.runs import main as runs
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.events.schema import ConfusionEvent, RunEvent, StepEvent, event_line
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live.query import FOLLOW_SECONDS, LiveQuery, start_live_query
from longtail.streaming.tables.manifest import list_runs, read_run_manifest
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES
from tests.analytics import assert_delta_tables_have_the_same_rows, delta_table
from tests.events import an_event, class_event

SECONDS = 60


def write_events(runs_dir: Path, run: str, *epochs: int) -> None:
    writer = EventWriter(runs_dir / "events", run=run, attempt=1)
    started = RunEvent(
        run=run, attempt=1, phase="train", emitted_at=1000.0, state="started", epoch=0, num_epochs=3,
        configuration="{}", message="",
    )  # fmt: skip
    writer.write_run(started)
    for epoch in epochs:
        classes = [class_event(run=run, epoch=epoch, class_id=i, class_name=f"class {i}") for i in range(3)]
        others = [an_event(kind, run=run, epoch=epoch) for kind in (ConfusionEvent, StepEvent)]
        writer.write_epoch(epoch, [*classes, *others, replace(started, state="epoch_done", epoch=epoch)])
    (runs_dir / run).mkdir(exist_ok=True)
    (runs_dir / run / "options.json").write_text("{}")


def content(tables_dir: Path) -> dict[str, list]:
    return {
        name: sorted(map(repr, read_result_table(tables_dir, name, now=1000.0).to_pylist()))
        for name in TABLES
        if name != "quarantine"
    }


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    for run in ("base", "semi"):
        write_events(tmp_path, run, 1, 2)
    foreign = [event_line(class_event(run=run, emitted_at=900.0)) for run in ("shared_a", "shared_b")]
    (tmp_path / "events" / "exported.jsonl").write_text("\n".join(foreign) + "\n")
    return tmp_path


@pytest.fixture
def live(spark: SparkSession, runs_dir: Path) -> Iterator[LiveQuery]:
    query = start_live_query(
        spark,
        runs_dir / "events",
        tables_dir=runs_dir / "analytics",
        trigger="100 milliseconds",
        runs_dir=runs_dir,
        on_update=update_sinks(runs_dir / "analytics", tensorboard=runs_dir / "tb", as_delta=True),
    )
    query.processAllAvailable()
    yield query
    query.stop()


def remove_tree(directory: Path) -> None:
    """Delete as by hand, again where the query has replaced a file or written one meanwhile."""
    wait_until(lambda: removed(directory))


def removed(directory: Path) -> bool:
    try:
        shutil.rmtree(directory)
    except OSError:
        return False
    return True


def remove_directory(tables: Path) -> None:
    remove_tree(tables / "runs" / "base")


def remove_manifest(tables: Path) -> None:
    (tables / "runs" / "base" / "manifest.json").unlink()


def damage_manifest(tables: Path) -> None:
    damaged = tables / "damaged.json"
    damaged.write_text('{"format_version": 1, "run"')
    # At once: without it for a moment, the query would remove the directory under our hands.
    damaged.replace(tables / "runs" / "base" / "manifest.json")


def overwrite_manifest(tables: Path) -> None:
    """In place, which leaves the directory as the query has last seen it."""
    time.sleep(3 * FOLLOW_SECONDS)
    (tables / "runs" / "base" / "manifest.json").write_text('{"format_version": 1, "run"')


def remove_segment(tables: Path) -> None:
    next((tables / "runs" / "base").glob("class_epochs-*")).unlink()


def remove_all_runs(tables: Path) -> None:
    remove_tree(tables / "runs")


DELETIONS = [remove_directory, remove_manifest, damage_manifest, overwrite_manifest, remove_segment, remove_all_runs]


def test_a_running_query_follows_everything_that_users_do(
    live: LiveQuery, runs_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tables = runs_dir / "analytics"
    before = content(tables)
    page = TableReader(tables)
    assert list_runs(tables) == ["base", "semi", "shared_a", "shared_b"]

    # A deleted run disappears from all tables, copies and the page, and its events do not bring it back.
    runs(["delete", "base", "--runs_dir", str(runs_dir)])
    runs(["delete", "shared_a", "--runs_dir", str(runs_dir)])
    wait_until(lambda: list_runs(tables) == ["semi", "shared_b"])
    wait_until(lambda: not (runs_dir / "tb" / "base").exists())
    wait_until(lambda: "base" not in delta_table(tables, "epochs").to_pandas()["run"].tolist())
    assert page.read("runs")["run"].to_pylist() == ["semi", "shared_b"]
    (runs_dir / "events" / "late.jsonl").write_text(event_line(class_event(run="base", epoch=3)) + "\n")
    write_events(runs_dir, "semi", 3)
    live.processAllAvailable()
    assert list_runs(tables) == ["semi", "shared_b"]

    # A restored one returns, as it was.
    runs(["restore", "base", "--runs_dir", str(runs_dir)])
    runs(["restore", "shared_a", "--runs_dir", str(runs_dir)])
    wait_until(lambda: list_runs(tables) == ["base", "semi", "shared_a", "shared_b"])
    wait_until(lambda: "base" in delta_table(tables, "epochs").to_pandas()["run"].tolist())
    assert [row for row in content(tables)["epochs"] if "'base'" in row] == [
        row for row in before["epochs"] if "'base'" in row
    ]
    (runs_dir / "events" / "late.jsonl").unlink()

    # What is deleted by hand is written again, and the page answers meanwhile.
    before = content(tables)
    for delete in DELETIONS:
        delete(tables)
        state = page_state(page.read, Selection(run="base"), page.notes())
        assert state.title
        wait_until(lambda: intact(tables) and content(tables) == before)
    assert "tables of base" in capfd.readouterr().err

    # A display name and hiding reach the page.
    runs(["rename", "base", "My base", "--runs_dir", str(runs_dir)])
    runs(["hide", "semi", "--runs_dir", str(runs_dir)])
    wait_until(lambda: "My base" in page_state(page.read, Selection(), page.notes()).html["runs"])
    wait_until(lambda: ">semi<" not in page_state(page.read, Selection(), page.notes()).html["runs"])
    wait_until(lambda: delta_tables_are_up_to_date(tables))
    assert live.isActive, str(live.exception())


def delta_tables_are_up_to_date(tables: Path) -> bool:
    try:
        assert_delta_tables_have_the_same_rows(tables)
    except AssertionError:
        return False
    return True


def intact(tables: Path) -> bool:
    try:
        return all(manifest_is_whole(tables, run) for run in ("base", "semi", "shared_a", "shared_b"))
    except (UserError, OSError):  # while a file is damaged
        return False


def manifest_is_whole(tables: Path, run: str) -> bool:
    manifest = read_run_manifest(tables, run)
    return manifest is not None and all(
        (tables / "runs" / run / file).exists() for files in manifest.files.values() for file in files.values()
    )
