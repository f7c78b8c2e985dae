"""Lines that are read without Spark (streaming/parsing/fast_lines.py) say what Spark's checks make of them."""

import dataclasses
import json
import math
import re
import time
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from longtail.streaming.events.schema import EVENT_KINDS, ClassEvent, Event, RunEvent, StepEvent, event_line
from longtail.streaming.live.line_reader import LineReader
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.fast_lines import read_fast_lines
from longtail.streaming.parsing.lines import bad_lines, good_events, parsed_events
from tests.conftest import REPOSITORY
from tests.events import PLAIN, an_event, line_frame


def table_of(lines: list[str]) -> pa.Table:
    return pa.table({"value": lines, "source": ["a file"] * len(lines)}, schema=LINE_SCHEMA)


@pytest.mark.parametrize("kind", EVENT_KINDS.values(), ids=EVENT_KINDS)
def test_what_is_written_is_read_without_spark(kind: type[Event]) -> None:
    changes = {"emitted_at": 1_700_000_000.123456}
    if kind is ClassEvent:
        changes |= {"class_name": 'naïve "quoted"\n名前', "loss_sum": 0.1 + 0.2, "confidence_sum": 1e-300}
    event = an_event(kind, **changes)

    found, left = read_fast_lines(table_of([event_line(event)]))

    if kind is ClassEvent:  # three digits in an exponent are left to Spark
        assert not found and left.num_rows == 1
        event = dataclasses.replace(event, confidence_sum=1e-30)
        found, left = read_fast_lines(table_of([event_line(event)]))
    assert not left.num_rows and list(found) == [kind.kind]
    assert found[kind.kind].to_pylist() == [dataclasses.asdict(event)]


def test_the_documented_line_of_each_kind_is_an_event() -> None:
    text = (REPOSITORY / "docs" / "analytics.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    found, left = read_fast_lines(table_of(block.splitlines()))
    assert not left.num_rows and {kind: events.num_rows for kind, events in found.items()} == dict.fromkeys(
        EVENT_KINDS, 1
    )
    assert f"({', '.join(f'`{kind}`' for kind in EVENT_KINDS)})" in text


@pytest.mark.parametrize(
    "line",
    [
        event_line(an_event(StepEvent, loss=math.nan)),
        event_line(an_event(ClassEvent, correct=5, support=4)),
        event_line(an_event(ClassEvent, support=-1)),
        event_line(an_event(ClassEvent, attempt=0)),
        event_line(an_event(ClassEvent, run="../../etc")),
        event_line(an_event(ClassEvent, epoch=10**6)),
        event_line(an_event(ClassEvent, epoch=4)),
        event_line(an_event(ClassEvent, support=10**12)),
        event_line(an_event(ClassEvent, class_id=10**5)),
        event_line(an_event(ClassEvent, shot_group="weird")),
        event_line(an_event(ClassEvent, emitted_at=253_402_300_800.0)),
        event_line(an_event(ClassEvent, class_name="x" * 4097)),
        event_line(an_event(StepEvent, step=11)),
        event_line(an_event(RunEvent, configuration="[" * 300)),
        event_line(an_event(RunEvent, configuration='{"deep": ' + "[" * 300 + "]" * 300 + "}")),
        event_line(an_event(RunEvent, configuration='{"deep": ' + "[" * 100 + "]" * 100 + "}")),
        event_line(an_event(RunEvent, configuration="{} {}")),
        event_line(an_event(RunEvent, configuration='{"rate": NaN}')),
        event_line(an_event(ClassEvent, class_name="\ud83d")),
        event_line(an_event(ClassEvent)).replace('_version": 2,', '_version": 3,', 1),
        event_line(an_event(ClassEvent)).replace(", ", ","),
        event_line(an_event(ClassEvent)) * 2,
        event_line(an_event(ClassEvent)) + "\n",
        json.dumps(dict(reversed(dataclasses.asdict(PLAIN[ClassEvent]).items()))),
        json.dumps({**dataclasses.asdict(PLAIN[ClassEvent]), "step": None}),
        "{}",
    ],
)
def test_of_any_other_line_nothing_is_said(line: str) -> None:
    found, left = read_fast_lines(table_of([event_line(PLAIN[ClassEvent]), line, ""]))

    assert [table.num_rows for table in found.values()] == [1]
    assert left["value"].to_pylist() == [line]


def test_bytes_that_are_no_text_are_left_to_spark() -> None:
    line = event_line(PLAIN[ClassEvent]).encode().replace(b"head", b"he\xffad")
    lines = pa.Array.from_buffers(pa.string(), 1, pa.array([line], pa.binary()).buffers())

    found, left = read_fast_lines(pa.table({"value": lines, "source": ["a file"]}, schema=LINE_SCHEMA))

    assert not found and left.num_rows == 1


WRITTEN = [event_line(event) for event in PLAIN.values()]
PIECES = (
    ['"', "\\", "\\u0041", "\\ud800", "null", "-", "0", "01", "1e3", "1e999", ".5", "{", "}", ", ", "é", "\t", "\u2028"]
    + ["NaN", ' "step": 3,', "99999999999999999999", "true", "[]", "", "999999999999", "1000000000000", "100000"]
    + ["{}", '{"a": [1, {"b": null}]}', '{\\"a\\": 1}', "} {", "]", "many", "train", "253402300800", "9" * 400]
    + [r"{\"a\": " * depth + "1" + "}" * depth for depth in (99, 100, 101, 600)]
)


def damaged_line(random: Random) -> str:
    """A line with a piece of it replaced by another."""
    line = random.choice(WRITTEN)
    start = random.randint(0, len(line))
    return line[:start] + random.choice(PIECES) + line[start + random.randint(0, 12) :]


@pytest.mark.long
def test_damaged_lines_are_what_spark_says_they_are(spark: SparkSession, tmp_path: Path) -> None:
    """Other lines each time; all at once, as to plan the checks takes Spark longer than to run them."""
    seed = time.time_ns()
    print(f"seed {seed}")  # pytest shows it if the test fails
    random = Random(seed)
    lines = [damaged_line(random) for _ in range(1500)]
    frame = line_frame(spark, [*WRITTEN, *lines])
    parsed = parsed_events(frame)
    expected, bad = good_events(parsed).toArrow().to_pylist(), bad_lines(parsed).toArrow().to_pylist()

    found, found_bad = LineReader(spark, tmp_path)(frame.toArrow())

    rows = [row for table in found.values() for row in table.to_pylist()]
    own = [{name: row[name] for name in dataclasses.asdict(PLAIN[EVENT_KINDS[row["kind"]]])} for row in expected]
    assert sorted(rows, key=repr) == sorted(own, key=repr)
    assert sorted(found_bad.to_pylist(), key=repr) == sorted(bad, key=repr)
