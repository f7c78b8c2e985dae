"""What archives say of their runs, so that a thousand old ones are listed before their tables are written."""

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.archive import archive_files
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import ALL_RUNS, Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.events.archives import SUMMARY, archived_summary
from longtail.streaming.events.files import archive_names, run_of_event_file
from longtail.streaming.events.schema import Event, RunEvent, StepEvent, event_line
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live import batches, waiting
from longtail.streaming.live.waiting import read_waiting_files
from longtail.streaming.runs.trash import delete_run
from longtail.streaming.tables.reading import latest_epochs, read_result_table
from longtail.streaming.tables.waiting_runs import FILE, read_waiting_runs, valid_summaries
from tests.events import an_event, class_event
from tests.histories import histories

RULES = read_alert_rules()


@pytest.fixture(autouse=True)
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batches, waiting):
        monkeypatch.setattr(module, "FEW_FILES", 0)


def rows_of(tables_dir: Path, run: str) -> str:
    """The rows that a list of runs needs, by their definition; as text, in which NaN is NaN."""
    epochs = latest_epochs(read_result_table(tables_dir, "epochs", run))
    return repr([read_result_table(tables_dir, "runs", run, now=0.0).to_pylist(), by_split(epochs.to_pylist())])


def by_split(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["split"])


@settings(deadline=None, max_examples=15)
@given(events=histories(), data=st.data())
def test_an_archive_says_of_a_run_what_its_tables_will_have(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    runs_dir = tmp_path_factory.mktemp("runs")
    events_dir = runs_dir / "events"
    events_dir.mkdir()
    chance = random.Random(data.draw(st.integers(0, 999)))
    for part in range(data.draw(st.integers(1, 2))):
        for run in ("base", "semi"):
            chosen = [event for event in events if event.run == run and chance.random() < 0.8]
            lines = [event_line(event) for event in chosen if isinstance(event, RunEvent)]
            (events_dir / f"{run}-attempt001-part{'ab'[part]}.jsonl").write_text("\n".join(lines))
            if others := [event for event in chosen if not isinstance(event, RunEvent)]:
                EventWriter(events_dir, run=run, attempt=1).write_epoch(part, others)
        archive_files(events_dir)
    read_waiting_files(runs_dir, runs_dir / "analytics", RULES, on_update=lambda runs: None)
    for name in archive_names(events_dir):
        run = f"{run_of_event_file(name)}"
        summary: Any = archived_summary(events_dir / name)
        expected = rows_of(runs_dir / "analytics", run)
        if summary is None:  # a training of which no event is left
            assert expected == "[[], []]"
        else:
            assert repr([summary["runs"], by_split(summary["epochs"])]) == expected
            assert valid_summaries({run: summary}) == [summary] or None in summary["runs"][0].values()


def write_run(events_dir: Path, run: str, at: float = 1000.0) -> None:
    writer = EventWriter(events_dir, run=run, attempt=1)
    for state, epoch in (("started", 0), ("finished", 2)):
        event = an_event(RunEvent, run=run, state=state, epoch=epoch, emitted_at=at)
        assert isinstance(event, RunEvent)
        writer.write_run(event)
    for epoch in (1, 2):
        writer.write_epoch(epoch, [class_event(run=run, epoch=epoch, class_id=c, emitted_at=at) for c in (0, 1)])


def test_old_runs_are_on_the_page_before_their_tables_are_written(tmp_path: Path) -> None:
    events_dir, tables_dir = tmp_path / "events", tmp_path / "analytics"
    for run in ("one", "two", "goes_on", "deleted"):
        write_run(events_dir, run)
    archive_files(events_dir)
    delete_run(tmp_path, "deleted", last_event_at=1000.0, keep_days=1)
    write_run(events_dir, "deleted", at=2000.0)  # before that, as the clock of its machine is behind
    archive_files(events_dir)
    step = an_event(StepEvent, run="goes_on", epoch=3)
    assert isinstance(step, StepEvent)
    EventWriter(events_dir, run="goes_on", attempt=1).write_step(step)
    texts: list[str] = []

    def look(runs: list[str]) -> None:
        reader = TableReader(tables_dir)
        if not texts:
            assert reader.read("runs")["run"].to_pylist() == ["one", "two"] and not list(tables_dir.glob("runs/*"))
            assert reader.read("epochs", "one")["run"].to_pylist() == ["one"]
            assert reader.read("class_epochs", "one").num_rows == reader.read("runs", "goes_on").num_rows == 0
            for selection in (Selection(), Selection(run="one", compare=("two",)), Selection(view=ALL_RUNS)):
                html = page_state(reader.read, selection, reader.notes()).html
                assert "read 0 of 5 event files" in html["runs"] and "two" in (html.get("table") or html["runs"])
        texts.append(" ".join(page_state(reader.read, Selection(run="one"), reader.notes()).html["runs"].split()))

    read_waiting_files(tmp_path, tables_dir, RULES, on_update=look)
    before, *_, after = texts
    assert before.count("run-link") == 2 and after.count("run-link") == 3
    # Nothing waits any more, and what was shown is what the tables have.
    assert not (tables_dir / FILE).exists() and TableReader(tables_dir).read("runs").num_rows == 3
    assert rows_of(tables_dir, "one").replace("'one'", "'two'") == rows_of(tables_dir, "two")


def test_a_run_that_is_deleted_meanwhile_is_no_longer_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "pieces_together", lambda pieces: ([piece] for piece in pieces))
    events_dir, tables_dir = tmp_path / "events", tmp_path / "analytics"
    for run in ("one", "two", "three"):
        write_run(events_dir, run)
    archive_files(events_dir)
    shown: list[list[str]] = []

    def look(runs: list[str]) -> None:
        reader = TableReader(tables_dir)
        shown.append(sorted(reader.read("runs")["run"].to_pylist()))
        assert {*reader.read("epochs")["run"].to_pylist()} == {*shown[-1]}
        if len(shown) == 1:
            delete_run(tmp_path, "three", last_event_at=1000.0, keep_days=1)

    read_waiting_files(tmp_path, tables_dir, RULES, on_update=look)
    assert shown[0] == ["one", "three", "two"] and len(shown) > 2
    assert all(runs == ["one", "two"] for runs in shown[1:])


def test_a_killed_start_leaves_nothing_that_is_wrong(tmp_path: Path) -> None:
    events_dir, tables_dir = tmp_path / "events", tmp_path / "analytics"
    write_run(events_dir, "one")
    archive_files(events_dir)

    def killed(runs: list[str]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_waiting_files(tmp_path, tables_dir, RULES, on_update=killed)
    assert TableReader(tables_dir).read("runs")["status"].to_pylist() == ["finished"]
    # Of files of other programs, any may be about any run.
    (events_dir / "others.jsonl").write_text(event_line(an_event(RunEvent, run="one", state="failed", attempt=2)))
    waits: list[int] = []
    read_waiting_files(tmp_path, tables_dir, RULES, on_update=lambda runs: waits.append((tables_dir / FILE).exists()))
    assert not (tables_dir / FILE).exists()
    assert TableReader(tables_dir).read("runs")["status"].to_pylist() == ["failed"]


def test_what_an_archive_of_others_says_is_checked(tmp_path: Path) -> None:
    for run in ("good", "other"):
        write_run(tmp_path, run)
    archive_files(tmp_path)
    good, other = (archived_summary(tmp_path / name) for name in sorted(archive_names(tmp_path)))
    assert isinstance(good, dict) and isinstance(other, dict)
    row, (split,) = good["runs"][0], good["epochs"]
    bad = [
        5, None, [], "x", {}, {"runs": 5, "epochs": []}, {"runs": [5], "epochs": []}, {**good, "runs": []}, other,
        {**good, "epochs": other["epochs"]}, {**good, "runs": good["runs"] * 2}, {**good, "runs": [{**row, "more": 1}]},
        *({**good, "runs": [{**row, name: value}]} for name, value in {
            "status": "weird", "epoch": 2**62, "num_epochs": -1, "attempt": 0, "started_at": float("nan"),
            "updated_at": 1e300, "status_at": None, "configuration": "[" * 60_000, "message": 5, "phase": "x" * 10_000,
        }.items()),
        *({**good, "epochs": [{**split, name: value}]} for name, value in {
            "split": "weird", "epoch": 2**62, "num_epochs": None, "accuracy": "x", "loss": [], "run": "../x",
        }.items()),
    ]  # fmt: skip
    for summary in bad:
        assert valid_summaries({"other": other, "good": summary}) == [other], summary
    # A loss may be anything that an event may say.
    odd = {**good, "epochs": [{**split, "loss": float("nan"), "head_tail_gap": None}]}
    assert len(valid_summaries({"good": odd, "other": other})) == 2


@pytest.mark.parametrize(
    "content", ["", "5", "[]", "{}", '{"format_version": 1}', '{"format_version": 99}', "[" * 9999]
)
def test_a_damaged_note_of_waiting_runs_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert {table.num_rows for table in read_waiting_runs(tmp_path).values()} == {0}
    assert TableReader(tmp_path).read("runs").num_rows == 0


@pytest.mark.parametrize("about", [b"5", b"[" * 5000, b"\xff", None])
def test_an_archive_with_another_description_is_read_as_ever(tmp_path: Path, about: bytes | None) -> None:
    write_run(tmp_path / "events", "one")
    archive_files(tmp_path / "events")
    (name,) = archive_names(tmp_path / "events")
    file = tmp_path / "events" / name
    rows = pq.read_table(file)
    metadata = {key: value for key, value in rows.schema.metadata.items() if key != SUMMARY}
    pq.write_table(rows.replace_schema_metadata(metadata | ({SUMMARY: about} if about else {})), file)
    described: list[int] = []
    tables_dir = tmp_path / "analytics"

    def look(runs: list[str]) -> None:
        described.append(read_waiting_runs(tables_dir)["runs"].num_rows)

    read_waiting_files(tmp_path, tables_dir, RULES, on_update=look)
    assert {*described} == {0} and read_result_table(tables_dir, "runs").num_rows == 1
