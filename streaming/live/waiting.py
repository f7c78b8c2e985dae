"""Reads the event files that have waited for a live query before Spark is started for it, whose start takes seconds.

By the same keeper, and with the same log of the files that were passed on: the query finds them done. A kill at any
moment repeats some of it, which changes nothing. Files with lines that need Spark's checks are left to the query. Until
all are read, readers of the tables know of the runs what their archives say.
"""

import sys
from collections.abc import Callable, Container, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic

from longtail.conf.base.locations import Location
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.events.archives import UNREADABLE, archived_summary
from longtail.streaming.events.files import is_archive, run_of_event_file
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.batches import update_without_spark
from longtail.streaming.live.checkpoint import FILES, claim_checkpoint
from longtail.streaming.live.disk import named_if_full
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.live.query import CHECKPOINT_DIRECTORY
from longtail.streaming.tables.progress import FEW_FILES, end_progress, read_progress, write_progress
from longtail.streaming.tables.waiting_runs import Summary, end_waiting, valid_summaries, write_waiting_runs

TELL_SECONDS = 10.0
"""Interval of the lines in the terminal that say how far it is."""


def read_waiting_files(
    runs_dir: Location, tables_dir: Path, rules: AlertRules, *, on_update: Callable[[list[str]], None]
) -> None:
    """Update the tables by the event files of the runs that wait. Of many, it is said how far it is.

    on_update: called with the names of the runs whose tables changed

    Raises UserError as start_live_query does.
    """
    events_dir, checkpoint = runs_dir / EVENTS_DIRECTORY, tables_dir.absolute() / CHECKPOINT_DIRECTORY
    with named_if_full(tables_dir), closing(TableKeeper(None, tables_dir, rules, runs_dir=runs_dir)) as keeper:
        claim_checkpoint(checkpoint, FILES, new=False)
        names = NewFiles(events_dir, checkpoint).look()
        if not names:
            end_waiting(tables_dir)
            return
        if len(names) > FEW_FILES:
            write_progress(tables_dir, 0, len(names))
        changed = keeper.runs.follow()
        write_waiting_runs(tables_dir, _described_runs(events_dir, names, deleted=keeper.runs.deleted))
        on_update(changed)
        log = NewFiles(events_dir, checkpoint)
        next_line = monotonic() + TELL_SECONDS
        for changed, done in update_without_spark(keeper, events_dir, names):
            log.add(done)
            log.log(sorted(done))
            on_update([*changed, *keeper.runs.follow()])
            if monotonic() > next_line:
                print(f"longtail: {read_progress(tables_dir)}", file=sys.stderr, flush=True)
                next_line = monotonic() + TELL_SECONDS
        end_progress(tables_dir)
        end_waiting(tables_dir)


def _described_runs(events_dir: Location, names: Sequence[str], *, deleted: Container[str]) -> list[Summary]:
    """What archives say of the runs of which nothing else waits: then the tables will say the same.

    names: of the event files that wait; deleted: runs of which events may not count
    """
    by_run: dict[str | None, list[str]] = {}
    for name in names:
        by_run.setdefault(run_of_event_file(name), []).append(name)
    if None in by_run:  # any run
        return []
    found: dict[str, object] = {}
    for run, (name, *others) in by_run.items():
        if run and is_archive(name) and not others and run not in deleted:
            with suppress(*UNREADABLE):
                found[run] = archived_summary(events_dir / name)
    return valid_summaries({run: summary for run, summary in found.items() if summary is not None})
