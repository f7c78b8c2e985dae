"""Lines that cannot be processed are found and left out, and the rest is processed (streaming/live/bulkhead.py)."""

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from longtail.streaming.alerts.finding import find_alerts
from longtail.streaming.alerts.rule import AlertTables, Row
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.events.schema import event_line
from longtail.streaming.live import keeper as keeper_module
from longtail.streaming.live.bulkhead import MAX_FAILURES, apply_in_parts
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.reading import read_result_table
from tests.events import class_event


def lines_of(values: list[str]) -> pa.Table:
    return pa.table({"value": values, "source": ["a file"] * len(values)}, schema=LINE_SCHEMA)


class Applier:
    """Applies lines, unless one of them begins with `bad`."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.calls = 0

    def __call__(self, lines: pa.Table) -> None:
        self.calls += 1
        values = lines["value"].to_pylist()
        if any(value.startswith("bad") for value in values):
            raise pa.ArrowInvalid(f"no sum of\n{len(values)} lines")
        self.applied += values


@pytest.mark.parametrize("bad", [{0}, {999}, {17, 18, 500}, set()])
def test_bad_lines_are_found_and_all_others_are_applied_once(bad: set[int]) -> None:
    values = [f"{'bad' if i in bad else 'good'} {i}" for i in range(1000)]
    apply = Applier()

    refused = apply_in_parts(lines_of(values), apply, check=lambda: None)

    assert sorted(apply.applied) == sorted(value for value in values if value.startswith("good"))
    assert [part["value"].to_pylist() for part, _ in refused] == [[values[i]] for i in sorted(bad)]
    assert {error for _, error in refused} <= {"ArrowInvalid: no sum of 1 lines"}
    assert apply.calls <= 1 + 2 * 10 * len(bad)


def test_when_everything_is_bad_the_search_ends() -> None:
    apply = Applier()

    refused = apply_in_parts(lines_of([f"bad {i}" for i in range(50_000)]), apply, check=lambda: None)

    assert sum(part.num_rows for part, _ in refused) == 50_000 and not apply.applied
    assert apply.calls < 2 * MAX_FAILURES


def test_no_line_is_blamed_for_what_happens_without_any() -> None:
    def fail() -> None:
        raise RuntimeError("the session is gone")

    with pytest.raises(RuntimeError, match="the session is gone"):
        apply_in_parts(lines_of(["bad"]), Applier(), check=fail)


def test_no_line_is_blamed_for_a_full_disk() -> None:
    def apply(lines: pa.Table) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        apply_in_parts(lines_of(["good"]), apply, check=lambda: None)


def test_a_run_whose_line_breaks_a_query_keeps_its_other_rows_and_no_other_run_notices(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = TableKeeper(spark.newSession(), tmp_path, AlertRules())

    def fail_after_the_scores(run: str, tables: AlertTables, rules: AlertRules) -> list[Row]:
        """As the function, but no alert about this class can be computed."""
        if pc.any(pc.equal(tables.class_epochs["class_name"], "poison")).as_py():
            raise pa.ArrowInvalid("overflow")
        return find_alerts(run, tables, rules)

    monkeypatch.setattr(keeper_module, "find_alerts", fail_after_the_scores)
    events = [
        class_event(run=run, epoch=epoch, class_id=class_id, class_name=name)
        for run in ("healthy", "broken")
        for epoch in (1, 2)
        for class_id, name in enumerate(["head", "tail"])
    ]
    poison = class_event(run="broken", epoch=2, class_id=2, class_name="poison")
    only_poison = class_event(run="only_poison", class_name="poison")
    changed = keeper.update(lines_of([event_line(event) for event in [*events, poison, only_poison]]))
    keeper.close()

    assert sorted(changed) == ["broken", "healthy"] == list_runs(tmp_path)
    rows = read_result_table(tmp_path, "class_epochs").to_pylist()
    key = ("run", "epoch", "class_name")
    assert sorted(tuple(row[name] for name in key) for row in rows) == sorted(
        tuple(getattr(event, name) for name in key) for event in events
    )
    kept = read_result_table(tmp_path, "quarantine").to_pylist()
    assert {row["line"] for row in kept} == {event_line(poison), event_line(only_poison)}
    assert {row["reason"] for row in kept} == {"stops the update of the tables: ArrowInvalid: overflow"}
