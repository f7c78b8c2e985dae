"""Updates the tables by a micro-batch, which has lines, or the names of event files."""

from collections.abc import Iterator, Sequence

from pyspark.sql import DataFrame

from longtail.conf.base.locations import Location
from longtail.streaming.event_files.reading import EventPiece, pieces_together, read_event_files
from longtail.streaming.events.files import newest_runs_first
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.live.line_reader import SparkNeeded
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.tables.manifest import DamagedTables
from longtail.streaming.tables.progress import FEW_FILES, end_progress, write_progress


def update_by_lines(keeper: TableKeeper, batch: DataFrame) -> Iterator[list[str]]:
    """Update the tables by lines (value, source); the names of the runs that changed."""
    yield keeper.update(batch.toArrow())


def update_by_files(keeper: TableKeeper, events_dir: Location, names: Sequence[str]) -> Iterator[list[str]]:
    """Update the tables part by part, which bounds memory; after each the names of the runs that changed.

    names: of event files. If they are many, the newest runs come first, and readers of the tables see how far it is.
    """
    for pieces in _parts(keeper, events_dir, names):
        yield keeper.update(LINE_SCHEMA.empty_table(), pieces)
    end_progress(keeper.tables_dir)


def update_without_spark(
    keeper: TableKeeper, events_dir: Location, names: Sequence[str]
) -> Iterator[tuple[list[str], set[str]]]:
    """As update_by_files, by a keeper without Spark; the files that need it are left.

    Gives the names of the runs that changed, and those of the event files that are done.
    """
    left, begun = set[str](), set[str]()
    for pieces in _parts(keeper, events_dir, names):
        changed, updated = _update_without_spark(keeper, pieces)
        sources = {piece.source for piece in pieces}
        left |= sources - {piece.source for piece in updated}
        begun = begun | sources
        last = {pieces[-1].source}  # the next part may have more of it
        yield changed, begun - left - last
        begun &= last
    yield [], begun - left


def _update_without_spark(keeper: TableKeeper, pieces: list[EventPiece]) -> tuple[list[str], list[EventPiece]]:
    """The names of the runs that changed, and the pieces by which they were updated."""
    while pieces:
        try:
            return keeper.update(LINE_SCHEMA.empty_table(), pieces), pieces
        except SparkNeeded as error:
            plain = [piece for piece in pieces if error.sources and not {*error.sources} & {*piece.sources}]
            pieces = plain if len(plain) < len(pieces) else []
        except (FileNotFoundError, DamagedTables):  # somebody deletes them meanwhile
            pieces = []
    return [], []


def _parts(keeper: TableKeeper, events_dir: Location, names: Sequence[str]) -> Iterator[list[EventPiece]]:
    """The content of event files, in parts; notes how many of many files are read."""
    if len(names) > FEW_FILES:
        names = newest_runs_first(events_dir, names)
        write_progress(keeper.tables_dir, 0, len(names))
    done: set[str] = set()
    for pieces in pieces_together(read_event_files(events_dir, names)):
        yield pieces
        done.update(piece.source for piece in pieces)
        if len(names) > FEW_FILES:
            write_progress(keeper.tables_dir, len(done), len(names))
