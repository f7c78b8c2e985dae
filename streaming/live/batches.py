"""Updates the tables by a micro-batch, which has lines, or the names of event files."""

from collections.abc import Iterator

from pyspark.sql import DataFrame

from longtail.streaming.event_files.reading import pieces_together
from longtail.streaming.event_files.source import FILE, pieces_of
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.arrow import LINE_SCHEMA


def update_by_batch(keeper: TableKeeper, batch: DataFrame) -> Iterator[list[str]]:
    """Update the tables part by part, which bounds memory; after each the names of the runs that changed.

    batch: value, source (lines), or directory, file (streaming/event_files/source.py)
    """
    rows = batch.toArrow()
    if FILE not in rows.column_names:
        yield keeper.update(rows)
        return
    for pieces in pieces_together(pieces_of(rows)):
        yield keeper.update(LINE_SCHEMA.empty_table(), pieces)
