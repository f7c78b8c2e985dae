"""Updates the tables by a micro-batch, which has lines, or the names of event files."""

from collections.abc import Iterator, Sequence

from pyspark.sql import DataFrame

from longtail.conf.base.locations import Location
from longtail.streaming.event_files.reading import pieces_together, read_event_files
from longtail.streaming.events.files import newest_runs_first
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.tables.progress import FEW_FILES, end_progress, write_progress


def update_by_lines(keeper: TableKeeper, batch: DataFrame) -> Iterator[list[str]]:
    """Update the tables by lines (value, source); the names of the runs that changed."""
    yield keeper.update(batch.toArrow())


def update_by_files(keeper: TableKeeper, events_dir: Location, names: Sequence[str]) -> Iterator[list[str]]:
    """Update the tables part by part, which bounds memory; after each the names of the runs that changed.

    names: of event files. If they are many, the newest runs come first, and readers of the tables see how far it is.
    """
    if len(names) > FEW_FILES:
        names = newest_runs_first(events_dir, names)
    done: set[str] = set()
    for pieces in pieces_together(read_event_files(events_dir, names)):
        yield keeper.update(LINE_SCHEMA.empty_table(), pieces)
        done.update(piece.source for piece in pieces)
        if len(names) > FEW_FILES:
            write_progress(keeper.tables_dir, len(done), len(names))
    end_progress(keeper.tables_dir)
