"""A new run that has the name of a deleted one inherits nothing from it, and a restored one has all of it. No Spark."""

import json
import shlex
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from longtail.spark_jobs.runs import main as runs
from longtail.streaming.alerts.notifier import Notifier
from longtail.streaming.alerts.receivers import receiver
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live.own_alerts import OwnAlerts
from longtail.streaming.live.quarantine import Quarantine
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.writing import write_run
from tests.events import class_event
from tests.result_rows import write_base

OWN = pa.table({"run": ["base", "other"], "message": ["the tail is lost", "the tail is lost"]})
NAN = {"run": "base", "split": "test", "epoch": 1, "rule": "nan_loss", "message": "the loss is NaN"}


def do(runs_dir: Path, *arguments: str) -> None:
    runs([*arguments, "--runs_dir", str(runs_dir)])


def alerts(tables_dir: Path) -> list[str]:
    return [row["rule"] for row in read_result_table(tables_dir, "alerts", "base").to_pylist()]


def write_tables(tables_dir: Path) -> None:
    """Those of a run that says the same as the one before."""
    write_base(tables_dir)
    write_run(tables_dir, RunManifest("other"), {}, {"alerts": [NAN]})


def test_alerts_of_own_queries_are_found_and_shown_anew(tmp_path: Path) -> None:
    tables_dir = tmp_path / "analytics"
    write_tables(tables_dir)
    assert len(OwnAlerts(tables_dir, "tail").add(OWN, 0)) == 2
    assert alerts(tables_dir) == ["query tail"]

    do(tmp_path, "delete", "base")
    write_tables(tables_dir)
    assert alerts(tables_dir) == []
    (again,) = OwnAlerts(tables_dir, "tail").add(OWN, 1)
    assert again["run"] == "base" and alerts(tables_dir) == ["query tail"]
    assert OwnAlerts(tables_dir, "tail").add(OWN, 2) == []  # also after a restart


def test_a_restored_run_has_its_own_alerts(tmp_path: Path) -> None:
    write_tables(tmp_path / "analytics")
    OwnAlerts(tmp_path / "analytics", "tail").add(OWN, 0)
    do(tmp_path, "delete", "base")
    do(tmp_path, "restore", "base")
    assert alerts(tmp_path / "analytics") == ["query tail"]


def test_its_alerts_are_sent_although_the_same_were_sent_before(tmp_path: Path) -> None:
    tables_dir, told = tmp_path / "analytics", tmp_path / "told"
    keep = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"

    def send() -> int:
        write_run(tables_dir, RunManifest("base"), {}, {"alerts": [NAN]})
        notifier = Notifier(receiver(shlex.join([sys.executable, "-c", keep])), tables_dir, pause_seconds=0.01)
        notifier.update(["base"])
        notifier.close(wait_seconds=60)
        return sum(len(json.loads(line)["alerts"]) for line in told.read_text().splitlines())

    assert send() == send() == 1
    do(tmp_path, "delete", "base")
    assert send() == send() == 2


def test_bad_lines_of_the_deleted_run_do_not_make_it_a_broken_one(tmp_path: Path) -> None:
    tables_dir = tmp_path / "analytics"
    write_base(tables_dir)

    def quarantine(emitted_at: float) -> None:
        line = f'{{"run": "base", "emitted_at": {emitted_at}, "kind": "nonsense"}}'
        Quarantine(tables_dir).add(pa.table({"reason": ["unknown kind"], "line": [line], "source": ["x"]}))

    def html() -> str:
        reader = TableReader(tables_dir)
        return page_state(reader.read, Selection(), reader.notes()).html["runs"]

    quarantine(1000.0)
    assert "broken" in html()
    do(tmp_path, "delete", "base")
    write_base(tables_dir)
    assert "broken" not in html() and "1 line of no run shown here" in html()
    quarantine(4e9)
    assert "broken" in html()


def test_a_description_goes_with_the_deleted_run(tmp_path: Path) -> None:
    tables_dir = tmp_path / "analytics"
    write_base(tables_dir)
    do(tmp_path, "rename", "base", "First")
    do(tmp_path, "hide", "base")
    do(tmp_path, "delete", "base")
    write_base(tables_dir)
    reader = TableReader(tables_dir)
    html = page_state(reader.read, Selection(), reader.notes()).html["runs"]
    assert "First" not in html and 'title="base"' in html


@pytest.mark.parametrize("is_archived", [False, True])
def test_its_event_files_are_new_although_files_of_these_names_were_read(tmp_path: Path, is_archived: bool) -> None:
    """The query that read the old ones, and that goes on, was not running meanwhile."""
    state, events_dir = tmp_path / "state", tmp_path / "events"

    def train() -> None:
        for run in ("base", "other"):
            EventWriter(events_dir, run=run, attempt=1).write_epoch(1, [class_event(run=run)])

    train()
    new = NewFiles(events_dir, state)
    new.log(new.look())
    do(tmp_path, "delete", "base")
    train()
    if is_archived:
        do(tmp_path, "archive", "base")
    found = NewFiles(events_dir, state).look()
    assert [name.removeprefix("archive/")[:4] for name in found] == ["base"]
