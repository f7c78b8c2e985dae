"""Runs whose events wait to be read, as their archives describe them, for whoever lists runs. No Spark.

    TABLES_DIR/waiting_runs.json

An archive with all events of a run has the rows of the run in the tables `runs` and `epochs` (the latest epoch of each
split), computed when it was written. Of a thousand old runs these are read in a second, and the tables in half a
minute. A run that has tables is shown by these alone.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.files import write_text_atomically
from longtail.streaming.events.bounds import ONE_OF, REALS, integer_range
from longtail.streaming.events.schema import END_STATES, EVENT_FORMAT_VERSION, STARTED, RunEvent
from longtail.streaming.parsing.columns import ARCHIVED_SOURCE, checked_events
from longtail.streaming.tables.schemas import RUNNING, TABLES, TABLES_FORMAT_VERSION

SUMMARY_TABLES = ("runs", "epochs")
FILE = "waiting_runs.json"

FileState = tuple[int, int]
Summary = Mapping[str, list[dict[str, Any]]]
"""What a list of runs shows of one: its rows of SUMMARY_TABLES, by table."""


def valid_summaries(summaries: Mapping[str, Any]) -> list[Summary]:
    """Those whose rows events of their run could have given: an archive may come from anybody.

    summaries: by run, anything that JSON can say
    """
    if not summaries or _are_valid(summaries):
        return [*summaries.values()]
    if len(summaries) == 1:
        return []
    # Looking at one alone takes as long as looking at a hundred.
    runs, middle = [*summaries], len(summaries) // 2
    halves = ({run: summaries[run] for run in half} for half in (runs[:middle], runs[middle:]))
    return [summary for half in halves for summary in valid_summaries(half)]


def _are_valid(summaries: Mapping[str, Any]) -> bool:
    try:
        runs, epochs = _tables(summaries.values())
        if runs["run"].to_pylist() != [*summaries]:
            return False
        of_others = (row for run, summary in summaries.items() for row in summary["epochs"] if row["run"] != run)
        low, high = REALS["emitted_at"]
        return (
            next(of_others, None) is None
            and all(_is_within(runs[name], low, high) for name in ("started_at", "updated_at", "status_at"))
            and all(_is_within(epochs[name], *integer_range(name)) for name in ("epoch", "num_epochs"))
            and {*epochs["split"].to_pylist()} <= {*ONE_OF["split"]}
            and {*runs["status"].to_pylist()} <= {RUNNING, *END_STATES}
            and _are_events(runs)
        )
    except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError):
        return False


def _is_within(column: pa.ChunkedArray, low: float, high: float) -> bool:
    is_within = pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))
    return pc.all(is_within, min_count=0, skip_nulls=False).as_py() is True


def _are_events(runs: pa.Table) -> bool:
    """Whether rows of `runs` have the values that run events may have."""
    events = runs.select(["run", "attempt", "phase", "epoch", "num_epochs", "configuration", "message"])
    constant = {"format_version": EVENT_FORMAT_VERSION, "kind": RunEvent.kind, ARCHIVED_SOURCE: FILE}
    for name, value in constant.items():
        events = events.append_column(name, pa.repeat(value, runs.num_rows))
    events = events.append_column("emitted_at", runs["updated_at"])
    states = pc.if_else(pc.equal(runs["status"], RUNNING), STARTED, runs["status"])
    _, others = checked_events(events.append_column("state", states))
    return not others.num_rows


def write_waiting_runs(tables_dir: Path, summaries: Iterable[Summary]) -> None:
    """Note these runs."""
    rows = {name: [row for summary in summaries for row in summary[name]] for name in SUMMARY_TABLES}
    write_text_atomically(tables_dir / FILE, json.dumps({"format_version": TABLES_FORMAT_VERSION, **rows}))


def end_waiting(tables_dir: Path) -> None:
    """Note that no run waits any more."""
    (tables_dir / FILE).unlink(missing_ok=True)


def waiting_state(tables_dir: Path) -> FileState | None:
    """A value that changes whenever the runs that wait do; None if there are none."""
    try:
        status = (tables_dir / FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def read_waiting_runs(tables_dir: Path) -> dict[str, pa.Table]:
    """The rows of the tables `runs` and `epochs` of the runs that wait; empty if none do, or if the file is damaged."""
    with suppress(OSError, ValueError, LookupError, TypeError, pa.ArrowException, RecursionError):
        content = json.loads((tables_dir / FILE).read_text(encoding="utf-8"))
        if content["format_version"] == TABLES_FORMAT_VERSION:
            return dict(zip(SUMMARY_TABLES, _tables([content]), strict=True))
    return {name: TABLES[name].empty_table() for name in SUMMARY_TABLES}


def _tables(summaries: Iterable[Any]) -> list[pa.Table]:
    """Raises pa.ArrowException, LookupError, TypeError or ValueError for what are no summaries."""
    found = []
    for name in SUMMARY_TABLES:
        rows = [row for summary in summaries for row in summary[name]]
        if not all(isinstance(row, dict) and row.keys() == {*TABLES[name].names} for row in rows):
            raise ValueError(f"no rows of {name}")
        found.append(pa.Table.from_pylist(rows, schema=TABLES[name]))
    return found
