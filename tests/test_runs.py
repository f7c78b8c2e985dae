"""`longtail runs` changes a run everywhere at once, and nothing outside of its directory. No Spark."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.runs import main as runs
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import event_files_of, file_names
from longtail.streaming.events.schema import RunEvent
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live.checkpoint import missing_part
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.runs import trash
from longtail.streaming.runs.descriptions import add_tag
from longtail.streaming.runs.trash import trash_entries
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.quarantine_files import versioned_file
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.view import newest_runs
from longtail.training.run_directory import exclusive_run
from tests.analytics import assert_delta_tables_have_the_same_rows
from tests.events import class_event
from tests.refusals import refused
from tests.result_rows import write_base


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """The finished run `base`, with its directory, events, tables, and copies of the tables."""
    runs_dir = tmp_path / "runs"
    write_run(runs_dir, "base")
    write_base(runs_dir / "analytics")
    copies = update_sinks(runs_dir / "analytics", tensorboard=tmp_path / "tb", as_delta=True)
    copies(["base"])
    return runs_dir


def write_run(runs_dir: Path, run: str) -> None:
    writer = EventWriter(runs_dir / "events", run=run, attempt=1)
    started = RunEvent(run=run, attempt=1, phase="train", emitted_at=1.0, state="started", epoch=0, num_epochs=1,
                       configuration="{}", message="")  # fmt: skip
    writer.write_run(started)
    writer.write_epoch(1, [class_event(run=run)])
    (runs_dir / run).mkdir()
    for name in ("options.json", "result.json", "lock"):
        (runs_dir / run / name).write_text("{}")


def do(runs_dir: Path, *arguments: str) -> None:
    runs([*arguments, "--runs_dir", str(runs_dir)])


def files(directory: Path) -> dict[str, bytes]:
    """The content of all files by path, without those that say what happened, and without locks."""
    left_out = {"lock", "entry.json", "descriptions.json", "deletions.json", "sinks.json"}
    found = (file for file in directory.rglob("*") if file.is_file() and file.name not in left_out)
    return {str(file.relative_to(directory)): file.read_bytes() for file in found if "delta" not in file.parts}


@pytest.mark.parametrize("is_archived", [False, True])
def test_a_deleted_run_is_nowhere_and_a_restored_one_is_as_it_was(runs_dir: Path, is_archived: bool) -> None:
    if is_archived:
        do(runs_dir, "archive", "b*")
        assert [file.parent.name for file in event_files_of(runs_dir / "events", "base")] == ["archive"]
    tables, before = runs_dir / "analytics", files(runs_dir)

    do(runs_dir, "delete", "base")
    assert not (runs_dir / "base").exists() and event_files_of(runs_dir / "events", "base") == []
    assert list_runs(tables) == [] and not (runs_dir.parent / "tb" / "base").exists()
    assert_delta_tables_have_the_same_rows(tables)

    do(runs_dir, "restore", "base")
    assert files(runs_dir) == before
    assert list_runs(tables) == ["base"] and (runs_dir.parent / "tb" / "base").exists()
    assert_delta_tables_have_the_same_rows(tables)


@pytest.mark.parametrize("options", [(), ("--purge",)])
def test_whoever_keeps_the_tables_next_does_not_miss_a_run_that_users_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    def follow() -> None:
        keeper = TableKeeper(None, tmp_path / "analytics", AlertRules(), runs_dir=tmp_path)
        try:
            keeper.follow()
            names = file_names(tmp_path / "events")
            keeper.update(LINE_SCHEMA.empty_table(), [*read_event_files(tmp_path / "events", names)])
        finally:
            keeper.close()

    for run in ("base", "other"):
        EventWriter(tmp_path / "events", run=run, attempt=1).write_epoch(1, [class_event(run=run)])
    follow()
    do(tmp_path, "delete", "base", *options)
    follow()
    assert list_runs(tmp_path / "analytics") == ["other"] and capsys.readouterr().err == ""

    for directory in ("events", "analytics/runs"):  # by hand
        shutil.rmtree(tmp_path / directory)
        (tmp_path / directory).mkdir()
    follow()
    assert [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()] == ["longtail: tables of other"]


def test_a_purged_run_cannot_be_restored_and_an_expired_one_is_purged(runs_dir: Path) -> None:
    do(runs_dir, "delete", "base", "--keep_days", "0")
    assert [entry.state for entry in trash_entries(runs_dir)] == ["purged"]
    assert [file for file in files(runs_dir) if "base" in file] == []
    with refused() as messages:
        do(runs_dir, "restore", "base")
    assert "has no run base" in messages[0]


def test_a_new_run_of_a_deleted_name_is_not_overwritten_by_a_restore(runs_dir: Path) -> None:
    do(runs_dir, "delete", "base")
    write_run(runs_dir, "base")
    before = files(runs_dir)
    with refused() as messages:
        do(runs_dir, "restore", "base")
    assert "another run of this name" in messages[0] and files(runs_dir) == before


def test_a_new_run_of_a_deleted_name_that_has_events_alone_is_not_mixed_with_it(runs_dir: Path) -> None:
    do(runs_dir, "delete", "base")
    EventWriter(runs_dir / "events", run="base", attempt=1).write_epoch(9, [class_event(run="base", epoch=9)])
    before = files(runs_dir)
    with refused() as messages:
        do(runs_dir, "restore", "base")
    assert "another run of this name" in messages[0] and files(runs_dir) == before


def test_a_new_run_is_not_mixed_with_one_whose_deletion_was_cut_off(runs_dir: Path) -> None:
    move = trash._move

    def killed_after(place: Path, target: Path) -> None:
        move(place, target)
        raise KeyboardInterrupt

    with patch.object(trash, "_move", killed_after), suppress(KeyboardInterrupt, SystemExit):
        do(runs_dir, "delete", "base")
    shutil.rmtree(runs_dir / "base", ignore_errors=True)
    write_run(runs_dir, "base")
    new = sorted(file.name for file in (runs_dir / "base").iterdir())
    do(runs_dir, "delete", "base")
    assert len(trash_entries(runs_dir)) == 2
    do(runs_dir, "restore", "base")
    assert sorted(file.name for file in (runs_dir / "base").iterdir()) == new


@pytest.mark.parametrize("num_moves", range(3))
@pytest.mark.parametrize("killed", ["delete", "restore"])
def test_a_deletion_or_restoration_that_was_cut_off_goes_on_and_loses_nothing(
    runs_dir: Path, killed: str, num_moves: int
) -> None:
    before = files(runs_dir)
    if killed == "restore":
        do(runs_dir, "delete", "base")
    moved: list[Path] = []
    move = trash._move

    def killed_move(place: Path, target: Path) -> None:
        if len(moved) == num_moves:
            raise KeyboardInterrupt
        moved.append(target)
        move(place, target)

    with patch.object(trash, "_move", killed_move), suppress(KeyboardInterrupt, SystemExit):
        do(runs_dir, killed, "base")
    if killed == "delete" and num_moves % 2:  # or it is restored at once
        do(runs_dir, "delete", "base")
    do(runs_dir, "restore", "base")
    assert files(runs_dir) == before
    assert [entry.state for entry in trash_entries(runs_dir)] == ["restored"]


def test_a_dry_run_changes_nothing(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(runs_dir)
    do(runs_dir, "delete", "b*", "--dry_run")
    assert capsys.readouterr().out == "would be deleted: base\n"
    assert files(runs_dir) == before and trash_entries(runs_dir) == []


def test_a_run_that_is_called_as_a_directory_of_longtails_own_does_not_take_it_along(runs_dir: Path) -> None:
    for run in ("events", "analytics", "descriptions"):
        EventWriter(runs_dir / "events", run=run, attempt=1).write_epoch(1, [class_event(run=run)])
    before = files(runs_dir / "analytics"), event_files_of(runs_dir / "events", "base")
    do(runs_dir, "delete", "[ade]*")
    assert (files(runs_dir / "analytics"), event_files_of(runs_dir / "events", "base")) == before
    assert event_files_of(runs_dir / "events", "events") == []
    assert sorted(entry.run for entry in trash_entries(runs_dir)) == ["analytics", "descriptions", "events"]


def test_a_run_that_is_being_trained_is_not_deleted(runs_dir: Path) -> None:
    with exclusive_run(runs_dir / "base"), refused() as messages:
        do(runs_dir, "delete", "base")
    assert "another process is working on" in messages[0] and (runs_dir / "base").is_dir()


def test_displays_show_a_runs_display_name_tags_and_note_and_leave_hidden_runs_out(runs_dir: Path) -> None:
    tables = runs_dir / "analytics"
    do(runs_dir, "rename", "base", "My <b> run")
    do(runs_dir, "tag", "base", "tail, LDAM,tail")
    do(runs_dir, "note", "base", "with seed 3")
    add_tag(runs_dir, "base", "LDAM")  # it has that
    page = TableReader(tables)
    html = page_state(page.read, Selection(), page.notes()).html
    assert "My &lt;b&gt; run" in html["runs"] and "tail · LDAM" in html["runs"] and "with seed 3" in html["overview"]
    views, _ = newest_runs(tables, split="test", name_part="My", limit=3)
    assert [view.title for view in views] == ["My <b> run (base)"]

    version = page.version()
    do(runs_dir, "hide", "base")
    assert page.version() != version
    assert "No runs yet" in page_state(page.read, Selection(), page.notes()).html["runs"]
    assert newest_runs(tables, split="test", limit=3) == ([], 0)
    do(runs_dir, "unhide", "base")
    assert json.loads((runs_dir / "descriptions" / "base.json").read_text()) == {
        "format_version": 1, "display_name": "My <b> run", "tags": ["tail", "LDAM"], "note": "with seed 3",
        "hidden": False,
    }  # fmt: skip


@pytest.mark.parametrize("target", ["base.zip", "base_exported"])
def test_an_exported_run_is_imported_elsewhere_as_it_was(runs_dir: Path, tmp_path: Path, target: str) -> None:
    do(runs_dir, "rename", "base", "My run")
    if target.endswith(".zip"):
        do(runs_dir, "archive", "base")
    do(runs_dir, "export", "base", str(tmp_path / target))
    other = tmp_path / "new" / "other"  # an import makes it
    do(other, "import", str(tmp_path / target), "--dry_run")
    assert not (tmp_path / "new").exists()
    do(other, "import", str(tmp_path / target))

    kept = {name: content for name, content in files(runs_dir).items() if not name.startswith("analytics")}
    assert files(other) == kept
    with refused() as messages:
        do(other, "import", str(tmp_path / target))
    assert "exists: delete the run base" in messages[0]
    do(other, "delete", "base", "--purge")
    do(other, "import", str(tmp_path / target))
    assert files(other) == kept and trash_entries(other) == []


def test_an_export_has_the_rows_of_the_tables(runs_dir: Path, tmp_path: Path) -> None:
    do(runs_dir, "export", "base", str(tmp_path / "out"))
    for name in ("runs", "epochs", "class_epochs"):
        exported = pq.read_table(tmp_path / "out" / "tables" / f"{name}.parquet")
        assert exported.num_rows and exported.equals(read_result_table(runs_dir / "analytics", name, "base"))


def put(archive: zipfile.ZipFile, name: str, content: str, mode: int = 0o100644) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    archive.writestr(info, content)


EXPORT = '{"format_version": 1, "run": "base"}'


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("export.json", EXPORT), ("../escaped", "x")], "is no part of an exported run"),
        ([("export.json", EXPORT), ("/tmp/escaped", "x")], "is no part of an exported run"),
        ([("export.json", EXPORT), ("run/../../escaped", "x")], "is no part of an exported run"),
        ([("export.json", EXPORT), ("other/file", "x")], "is no part of an exported run"),
        ([("export.json", EXPORT), ("run/link", "/etc", 0o120777)], "is a link or a special file"),
        ([("export.json", '{"format_version": 1, "run": "../base"}')], "not a valid name of a run"),
        ([("export.json", '{"format_version": 1, "run": "trash"}')], "not a valid name of a run"),
        ([("export.json", '{"format_version": 1, "run": "Events"}')], "not a valid name of a run"),
        ([("export.json", '{"format_version": 2, "run": "base"}')], "reads up to 1"),
        ([("export.json", "[" * 5000)], "has no export.json of a run"),
        ([("run/options.json", "{}")], "has no export.json of a run"),
        ([("export.json", EXPORT), ("events/semi-attempt001-started.jsonl", "")], "is none of base"),
        ([("export.json", EXPORT), ("events/base-attempt001-started.jsonl", '{"run": "semi"}\n')], "of the run 'semi'"),
    ],
)
def test_no_import_leads_out_of_its_directory_or_touches_another_run(
    tmp_path: Path, members: list[tuple], reason: str
) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for member in members:
            put(archive, *member)
    with refused() as messages:
        do(tmp_path / "runs", "import", str(tmp_path / "bad.zip"))
    assert reason in messages[0]
    assert [file.name for file in tmp_path.iterdir()] == ["bad.zip"]


def link_to_a_run(runs_dir: Path) -> list[str]:
    (runs_dir.parent / "elsewhere").mkdir()
    (runs_dir.parent / "elsewhere" / "options.json").write_text("{}")
    (runs_dir / "linked").symlink_to(runs_dir.parent / "elsewhere")
    return ["delete", "linked"]


def link_in_a_run(runs_dir: Path) -> list[str]:
    (runs_dir / "base" / "secret").symlink_to("/etc/hostname")
    return ["export", "base", str(runs_dir.parent / "out.zip")]


def link_for_the_trash(runs_dir: Path) -> list[str]:
    (runs_dir / "trash").symlink_to(runs_dir.parent)
    return ["delete", "base"]


@pytest.mark.parametrize(
    "arguments",
    [
        link_to_a_run,
        link_in_a_run,
        link_for_the_trash,
        lambda _: ["delete", "../runs"],
        lambda _: ["delete", "unknown*"],
        lambda _: ["restore", "../base"],
        lambda _: ["rename", "../base", "x"],
        lambda _: ["rename", "base"],
        lambda _: ["rename", "base", "x" * 101],
        lambda _: ["note", "base", "two\nlines"],
        lambda _: ["show"],
        lambda _: ["hide", "base", "x"],
        lambda _: ["list", "--purge"],
        lambda _: ["destroy", "base"],
        lambda _: ["import", "missing.zip"],
        lambda _: ["import", "/dev/null"],
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    runs_dir: Path, arguments: Callable[[Path], list[str]]
) -> None:
    given = arguments(runs_dir)
    before = files(runs_dir.parent)
    with refused():
        do(runs_dir, *given)
    assert files(runs_dir.parent) == before


def test_a_run_is_listed_with_what_there_is_of_it(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs_dir, "semi")
    do(runs_dir, "delete", "semi")
    capsys.readouterr()
    do(runs_dir, "list")
    heading, base, semi = capsys.readouterr().out.splitlines()
    assert heading.split() == ["RUN", "STATE", "EPOCHS", "WHERE", "DISPLAY", "NAME", "TAGS"]
    assert base.split() == ["base", "finished", "2/4", "directory,events,analytics"]
    assert semi.split()[:4] == ["semi", "deleted", "trash", "until"]


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
@pytest.mark.parametrize("name", ["manifest.json", "class_epochs", "epochs", "liveness", "descriptions", "quarantine"])
def test_a_page_answers_whatever_file_of_the_tables_is_damaged(tmp_path: Path, name: str, damage: str) -> None:
    write_base(tmp_path)
    bad_lines = versioned_file(tmp_path, 0, 0)
    bad_lines.parent.mkdir()
    pq.write_table(TABLES["quarantine"].empty_table(), bad_lines)
    for file in ("liveness.json", "descriptions.json"):
        (tmp_path / file).write_text("{}")
    page = TableReader(tmp_path)
    (file,) = [file for file in tmp_path.rglob("*") if file.is_file() and file.name.startswith(name)] or [bad_lines]
    file.unlink()
    if damage != "missing":
        file.write_text("" if damage == "empty" else "garbage")
    state = page_state(page.read, Selection(run="base"), page.notes())
    assert state.html["runs"] and state.html["overview"] and page.version()
    if name == "class_epochs":
        state = page_state(page.read, Selection(run="base"), page.notes())
        assert "Some tables of this run cannot be read" in state.html["overview"]


def whole_checkpoint(directory: Path) -> None:
    for name in ("offsets", "commits", "sources/0"):
        (directory / name).mkdir(parents=True)
    (directory / "metadata").touch()
    for number in range(12):
        if number >= 3:
            (directory / "offsets" / str(number)).write_text(f'v1\n{{}}\n{{"logOffset":{number}}}')
            (directory / "commits" / str(number)).touch()
        (directory / "sources" / "0" / (f"{number}.compact" if number == 9 else str(number))).touch()


@pytest.mark.parametrize(
    ("deleted", "is_damaged"),
    [
        ("metadata", True), ("offsets/11", True), ("offsets/10", True), ("offsets/4", False), ("commits/11", False),
        ("sources/0/11", True), ("sources/0/9.compact", True), ("sources/0/3", False), ("", False),
    ],
)  # fmt: skip
def test_a_checkpoint_that_lacks_what_spark_needs_is_found(tmp_path: Path, deleted: str, is_damaged: bool) -> None:
    whole_checkpoint(tmp_path)
    if deleted:
        os.unlink(tmp_path / deleted)
    assert (missing_part(tmp_path) is not None) == is_damaged
    assert missing_part(tmp_path / "new") is None


def test_a_missing_directory_of_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the --runs_dir"):
        do(tmp_path / "nowhere", "list")
