"""The lines of a micro-batch -> its metric events by kind, and the lines that are none."""

from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from longtail.streaming.events.schema import EVENT_KINDS
from longtail.streaming.live.prepared import PreparedQuery
from longtail.streaming.parsing.lines import LINE, REASON, SOURCE, parsed_events
from longtail.streaming.parsing.written_lines import LINE_SCHEMA, event_schema, written_events
from longtail.streaming.tables.store import QUARANTINE, TABLES


class LineReader:
    """directory: of its own, for files on the way to Spark"""

    def __init__(self, spark: SparkSession, directory: Path) -> None:
        self._spark, self._directory = spark, directory

    def __call__(self, lines: pa.Table) -> tuple[dict[str, pa.Table], pa.Table]:
        """Events, a table of event_schema a kind that is there; and what goes to the quarantine.

        lines: of LINE_SCHEMA
        """
        events, left = written_events(lines)
        bad = TABLES[QUARANTINE].empty_table()
        if left.num_rows:
            checked = self._checks(lines=[left])
            is_bad = pc.is_valid(checked[REASON])
            bad = checked.filter(is_bad).select([REASON, LINE, SOURCE]).rename_columns(bad.column_names)
            good = checked.filter(pc.invert(is_bad))
            for name, kind in EVENT_KINDS.items():
                more = good.filter(pc.equal(good["kind"], name)).select(event_schema(kind).names)
                if more.num_rows:
                    events[name] = pa.concat_tables([*([events[name]] if name in events else []), more])
        return events, bad

    @cached_property
    def _checks(self) -> PreparedQuery:
        # Planned when it is needed first: most queries never see such a line.
        return PreparedQuery(self._spark, parsed_events, {"lines": LINE_SCHEMA}, directory=self._directory)
