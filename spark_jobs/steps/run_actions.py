"""What `longtail runs` does with runs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import is_plain, printable
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.runs import OF_SEVERAL_RUNS, RunsOptions
from longtail.spark_jobs.display.run_list import run_lines, shown_run
from longtail.spark_jobs.steps.live_sinks import update_known_sinks
from longtail.spark_jobs.steps.run_logs import no_log
from longtail.streaming.archive import archive_run
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.runs.changes import check_inside, delete, follow_all, purge_expired
from longtail.streaming.runs.descriptions import read_description, write_description
from longtail.streaming.runs.exporting import export_run
from longtail.streaming.runs.importing import import_run
from longtail.streaming.runs.listing import listed_runs, matching_runs
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY, is_own_directory
from longtail.streaming.runs.trash import purge, restorable, restore_run, trash_entries
from longtail.streaming.tables.manifest import TABLES_DIRECTORY
from longtail.streaming.tables.published import copied_manifests, working_tables
from longtail.training.run_directory import exclusive_run
from longtail.training.run_log import read_log

MOST_CHARACTERS = {"rename": 100, "tag": 500, "note": 2000}


def act(options: RunsOptions) -> None:
    """Do what the options say, and make tables follow. Raises UserError if that is impossible."""
    # An import makes the directory. In a store of objects, one without any object is not there.
    if options.action != "import" and not options.runs_dir.is_dir():
        raise UserError(f"there is no directory {options.runs_dir}: name the --runs_dir of the runs")
    if options.value is not None and options.action in MOST_CHARACTERS:
        _check_text(options.action, options.value)
    ACTIONS[options.action](options)
    if options.dry_run or options.action in ("list", "show", "log", "export"):
        return
    purge_expired(options.runs_dir)
    _follow_in_stores(options)
    for tables_dir in follow_all(options.runs_dir, tables_dirs(options), after=_update_sinks):
        print(f"{tables_dir} follows after the current batch of the process that keeps it")


def tables_dirs(options: RunsOptions) -> list[Path]:
    """The directories of live tables that there are on the local disk."""
    return [path for path in _all_tables_dirs(options) if isinstance(path, Path)]


def _all_tables_dirs(options: RunsOptions) -> list[Location]:
    paths = [options.runs_dir / TABLES_DIRECTORY, options.runs_dir / PAGE_TABLES_DIRECTORY, options.tables_dir]
    return [path for path in paths if path is not None and path.is_dir()]


@contextmanager
def _states(options: RunsOptions) -> Iterator[list[Path]]:
    """Directories on the local disk that say how the runs stand; of tables in a store a copy of so much."""
    with ExitStack() as copies:
        yield [
            path if isinstance(path, Path) else copies.enter_context(copied_manifests(path))
            for path in _all_tables_dirs(options)
        ]


def _follow_in_stores(options: RunsOptions) -> None:
    """Make the tables that are in a store follow, in a copy of them."""
    for path in _all_tables_dirs(options):
        if isinstance(path, Path):
            continue
        try:
            with working_tables(path) as (tables_dir, _):
                follow_all(options.runs_dir, [tables_dir], after=_update_sinks)
        except UserError as error:
            print(f"{path} follows when its monitor or dashboard runs ({error})", file=sys.stderr)


def _list(options: RunsOptions) -> None:
    with _states(options) as states:
        listed = listed_runs(options.runs_dir, states)
    print(*run_lines(listed, pattern=options.run or "*"), sep="\n")


def _show(options: RunsOptions) -> None:
    (run,) = _runs(options)
    with _states(options) as states:
        listed = next(one for one in listed_runs(options.runs_dir, states) if one.run == run)
    print(*shown_run(options.runs_dir, listed), sep="\n")


def _log(options: RunsOptions) -> None:
    (run,) = _runs(options)
    check_inside(options.runs_dir, run)
    text = read_log(options.runs_dir / run)
    if not text:
        raise UserError(no_log(options.runs_dir / run))
    print(text, end="")


def _rename(options: RunsOptions) -> None:
    _describe(options, display_name=options.value)


def _tag(options: RunsOptions) -> None:
    tags = [tag.strip() for tag in (options.value or "").split(",")]
    _describe(options, tags=tuple(dict.fromkeys(tag for tag in tags if tag)))


def _note(options: RunsOptions) -> None:
    _describe(options, note=options.value)


def _hide(options: RunsOptions) -> None:
    _describe(options, hidden=options.action == "hide")


def _describe(options: RunsOptions, **changes: object) -> None:
    for run in _runs(options):
        before = read_description(options.runs_dir, run)
        if not options.dry_run:
            write_description(options.runs_dir, run, replace(before, **changes))
        print(f"{options.action}: {run}")


def _archive(options: RunsOptions) -> None:
    for run in _runs(options):
        if options.dry_run:
            print(f"would be archived: {run}")
            continue
        try:
            count = archive_run(options.runs_dir / EVENTS_DIRECTORY, run)
        except BlockingIOError:
            raise UserError(f"another process is archiving in {options.runs_dir}: wait for it") from None
        print(f"archived: {run} ({count} event files)")


def _delete(options: RunsOptions) -> None:
    in_trash = [entry.run for entry in trash_entries(options.runs_dir) if entry.is_kept]
    purges_trash = options.purge and options.run in in_trash
    runs = _runs(options, or_none=purges_trash)
    with ExitStack() as held:
        for run in runs:  # all are checked before the first is moved
            check_inside(options.runs_dir, run)
            if (directory := options.runs_dir / run).is_dir() and not is_own_directory(run):
                held.enter_context(exclusive_run(directory))
        if isinstance(options.runs_dir, StorePath):
            held.close()  # a lease is an object in the directory, and would be moved with it
        for run in runs:
            if not options.dry_run:
                delete(options.runs_dir, tables_dirs(options), run, keep_days=options.keep_days)
            what = "would be deleted" if options.dry_run else "deleted for good" if options.purge else "deleted"
            print(f"{what}: {run}")
    if options.purge and not options.dry_run:
        purged = purge(options.runs_dir, lambda entry: entry.run in {*runs, options.run})
        print(f"removed from the trash: {len(purged)}")
    elif runs and not options.dry_run:
        print(f"kept in the trash for {options.keep_days:g} days: `longtail runs restore RUN` brings a run back")


def _restore(options: RunsOptions) -> None:
    assert options.run is not None, "the options are validated"
    if not RUN_NAME.fullmatch(options.run):
        raise UserError(f"{options.run!r} is not a valid name of a run")
    if options.dry_run:
        print(f"would be restored: {restorable(options.runs_dir, options.run).name}")
        return
    restore_run(options.runs_dir, options.run)
    print(f"restored: {options.run}")


def _export(options: RunsOptions) -> None:
    (run,) = _runs(options)
    assert options.value is not None, "the options are validated"
    check_inside(options.runs_dir, run)
    export_run(options.runs_dir, tables_dirs(options), run, _local_path(options.value, "export to"))
    print(f"exported: {run} to {options.value}")


def _import(options: RunsOptions) -> None:
    assert options.run is not None, "the options are validated"
    source = _local_path(options.run, "import from")
    with _made(options.runs_dir):
        run = import_run(options.runs_dir, source, dry_run=options.dry_run)
    print(f"{'would be imported' if options.dry_run else 'imported'}: {run}")


ACTIONS: dict[str, Callable[[RunsOptions], None]] = {
    "list": _list, "show": _show, "log": _log, "rename": _rename, "tag": _tag, "note": _note, "hide": _hide,
    "unhide": _hide, "archive": _archive,
    "delete": _delete, "restore": _restore, "export": _export, "import": _import,
}  # fmt: skip


def _local_path(named: str, what: str) -> Path:
    """A file or directory on the local disk."""
    if "://" in named:
        raise UserError(f"cannot {what} {named}: name a file or directory on the local disk, and copy that")
    return Path(named)


@contextmanager
def _made(runs_dir: Location) -> Iterator[None]:
    """Make the directory, and those above it, for the block; what stays empty is removed again."""
    missing = [path for path in (runs_dir, *runs_dir.parents) if isinstance(path, Path) and not path.exists()]
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {runs_dir} ({error.strerror}): choose another --runs_dir") from None
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def _runs(options: RunsOptions, *, or_none: bool = False) -> list[str]:
    """The runs that the options name, one or several."""
    assert options.run is not None, "the options are validated"
    if options.action not in OF_SEVERAL_RUNS and not RUN_NAME.fullmatch(options.run):
        raise UserError(f"{options.run!r} is not a valid name of a run")
    try:
        return matching_runs(options.runs_dir, tables_dirs(options), options.run)
    except UserError:
        if or_none:
            return []
        raise


def _check_text(action: str, text: str) -> None:
    if len(text) > MOST_CHARACTERS[action] or not is_plain(text):
        raise UserError(
            f"{action}: a text of up to {MOST_CHARACTERS[action]} characters in one line was expected, this has "
            f"{len(text)}: {printable(text[:40])!r}"
        )


def _update_sinks(tables_dir: Path, runs: list[str]) -> None:
    try:
        update_known_sinks(tables_dir, runs)
    except UserError as error:  # a library is not installed here
        print(f"longtail runs: {error}; the next monitor brings the copies of the tables up to date", file=sys.stderr)
