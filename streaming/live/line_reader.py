"""Reads the lines of a micro-batch into events."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import EVENT_KINDS
from longtail.streaming.live.prepared import PreparedQuery
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.fast_lines import read_fast_lines
from longtail.streaming.parsing.lines import LINE, REASON, SOURCE, parsed_events

BAD_LINE_SCHEMA = pa.schema([(REASON, pa.string()), ("line", pa.string()), (SOURCE, pa.string())])


class SparkNeeded(Exception):
    """Lines that only Spark's checks can read came before it was started.

    sources: the files that they are from
    """

    def __init__(self, sources: Collection[str]) -> None:
        super().__init__("Spark is not started")
        self.sources = sources


class LineReader:
    """Reads lines without Spark where their format allows it, and with Spark's checks otherwise.

    spark: None if it is not started; then SparkNeeded is raised in the place of its checks
    directory: for the files that pass lines to Spark; nothing else may be in it
    """

    def __init__(self, spark: SparkSession | None, directory: Path) -> None:
        self._spark, self._directory = spark, directory

    def __call__(self, lines: pa.Table) -> tuple[dict[str, pa.Table], pa.Table]:
        """The events of each kind that occurs, a table of its event_schema; and the bad lines (reason, line, source).

        lines: table of LINE_SCHEMA
        """
        events, others = read_fast_lines(lines)
        bad = BAD_LINE_SCHEMA.empty_table()
        if others.num_rows:
            if self._spark is None:
                raise SparkNeeded(others["source"].unique().to_pylist())
            checked = self._checks(lines=[others])
            is_bad = pc.is_valid(checked[REASON])
            bad = checked.filter(is_bad).select([REASON, LINE, SOURCE]).rename_columns(bad.column_names)
            good = checked.filter(pc.invert(is_bad))
            for name, kind in EVENT_KINDS.items():
                more = good.filter(pc.equal(good["kind"], name)).select(event_schema(kind).names)
                if more.num_rows:
                    events[name] = pa.concat_tables([*([events[name]] if name in events else []), more])
        return events, bad

    def check(self) -> None:
        """Raise an error if Spark's checks fail without any line."""
        self._checks.run_on_nothing()

    @cached_property
    def _checks(self) -> PreparedQuery:
        # Planned when it is first needed: most streams never have such a line.
        if self._spark is None:
            raise SparkNeeded([])
        return PreparedQuery(self._spark, parsed_events, {"lines": LINE_SCHEMA}, directory=self._directory)
