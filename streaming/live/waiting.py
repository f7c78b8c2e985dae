"""Reads the event files that have waited for a live query before Spark is started for it, whose start takes seconds.

By the same keeper, and with the same log of the files that were passed on: the query finds them done. A kill at any
moment repeats some of it, which changes nothing. Files with lines that need Spark's checks are left to the query.
"""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic

from longtail.conf.base.locations import Location
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.batches import update_without_spark
from longtail.streaming.live.checkpoint import FILES, claim_checkpoint
from longtail.streaming.live.disk import named_if_full
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.live.query import CHECKPOINT_DIRECTORY
from longtail.streaming.tables.progress import FEW_FILES, end_progress, read_progress

TELL_SECONDS = 10.0
"""Interval of the lines in the terminal that say how far it is."""


def read_waiting_files(
    runs_dir: Location, tables_dir: Path, rules: AlertRules, *, on_update: Callable[[list[str]], None]
) -> None:
    """Update the tables by the event files of the runs that wait, if they are many.

    on_update: called with the names of the runs whose tables changed

    Raises UserError as start_live_query does.
    """
    events_dir, checkpoint = runs_dir / EVENTS_DIRECTORY, tables_dir.absolute() / CHECKPOINT_DIRECTORY
    with named_if_full(tables_dir), closing(TableKeeper(None, tables_dir, rules, runs_dir=runs_dir)) as keeper:
        claim_checkpoint(checkpoint, FILES, new=False)
        names = NewFiles(events_dir, checkpoint).look()
        if len(names) <= FEW_FILES:
            return
        on_update(keeper.runs.follow())
        log = NewFiles(events_dir, checkpoint)
        next_line = monotonic() + TELL_SECONDS
        for changed, done in update_without_spark(keeper, events_dir, names):
            log.add(done)
            log.log(sorted(done))
            on_update(changed)
            if monotonic() > next_line:
                print(f"longtail: {read_progress(tables_dir)}", file=sys.stderr, flush=True)
                next_line = monotonic() + TELL_SECONDS
        end_progress(tables_dir)
