"""From lines to events (streaming/parsing/lines.py): an event arrives unchanged, all else with the reason why not."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from longtail.streaming.events.schema import (
    EVENT_KINDS,
    ClassEvent,
    Event,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    event_line,
)
from longtail.streaming.parsing.fast_lines import line_pattern
from longtail.streaming.parsing.lines import MAX_LINE_KEPT, bad_lines, good_events, parsed_events
from tests.events import PLAIN, an_event, line_frame


def changed(**changes: Any) -> str:
    """The plain class event as a line, with other values; of a value ... nothing is left."""
    fields = {**json.loads(event_line(PLAIN[ClassEvent])), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


LINE = event_line(PLAIN[ClassEvent])
BAD = {
    "not JSON": "not a complete JSON object",
    LINE[:-40]: "not a complete JSON object",
    "null": "not a complete JSON object",
    "[1, 2]": "not a complete JSON object",
    '"text"': "not a complete JSON object",
    "\ufffd\ufffd\x00": "not a complete JSON object",
    "{}": "no format_version",
    changed(format_version=3): "format version 3 is newer than 2, the newest that this version of Longtail reads",
    changed(format_version=0): "invalid format version 0",
    changed(format_version="new"): "invalid format version new",
    changed(kind="telemetry"): "unknown kind telemetry",
    changed(mood="good", colour=3): "unknown fields: mood, colour",
    # A field of another kind is as unknown.
    changed(step=3): "unknown fields: step",
    # Names that together look like those that are missing.
    changed(**{"correct": ..., "predicted": ..., "correct,predicted": 3}): "unknown fields: correct,predicted",
    changed(support=..., correct=...): "missing fields: support, correct",
    changed(support="many"): "wrong type: support",
    changed(run=None): "wrong type: run",
    changed(epoch=1.5): "wrong type: epoch",
    changed(run="../../etc"): "invalid name of a run",
    changed(run=""): "invalid name of a run",
    changed(run="a\nb"): "invalid name of a run",
    changed(run="x" * 201): "invalid name of a run",
    LINE + LINE: "more than one JSON object",
    LINE + " junk": "more than one JSON object",
    LINE + "]": "more than one JSON object",
    LINE + "}": "more than one JSON object",
    LINE + ', "more": {}': "more than one JSON object",
    LINE.replace('"', "'"): "not a complete JSON object",
    LINE.replace('"support"', '"epoch": 2, "support"'): "a field is repeated",
    LINE.replace('"run": "base"', '"run": "base", "\\u0072un": "other"'): "a field is repeated",
    "\ufeff" + LINE: "not a complete JSON object",
    f"[{LINE}]": "not a complete JSON object",
    json.dumps(LINE): "not a complete JSON object",
    LINE[:-1] + "/* a comment */}": "not a complete JSON object",
    LINE[:-1] + ",}": "not a complete JSON object",
    LINE.replace('"run"', "run"): "not a complete JSON object",
    LINE.replace(", ", ",\u00a0", 1): "not a complete JSON object",
    LINE + "\u00a0": "more than one JSON object",
    LINE.replace('"support": 4', '"support": 04'): "not a complete JSON object",
    LINE.replace('"support": 4', '"support": +4'): "not a complete JSON object",
    LINE.replace('"support": 4', '"support": ' + "9" * 5000): "not a complete JSON object",
    LINE.replace('"support": 4', '"support": 4e0'): "wrong type: support",
    LINE.replace('"class_name": "head"', '"class_name": "\\ud800"'): "not a complete JSON object",
    LINE.replace('"class_name": "head"', '"class_name": "he\tad"'): "not a complete JSON object",
    changed(loss_sum=math.nan): "not a complete JSON object",
    changed(attempt=True): "wrong type: attempt",
    changed(extra=None): "unknown fields: extra",
    changed(kind="class "): "unknown kind class ",
    changed(run=".."): "invalid name of a run",
    changed(class_name=5): "wrong type: class_name",
    changed(phase=True, class_name=None): "wrong type: class_name",
    changed(phase=True): "wrong type: phase",
    changed(split={"split": "test"}): "wrong type of a field",
    changed(class_name=["head"]): "wrong type of a field",
    changed(support=-1): "out of bounds: correct, support",
    changed(correct=5): "out of bounds: correct",
    changed(support=2**63 - 1): "out of bounds: support",
    changed(predicted=10**12): "out of bounds: predicted",
    changed(class_id=10**5): "out of bounds: class_id",
    changed(epoch=2**62): "out of bounds: epoch",
    changed(epoch=4): "out of bounds: epoch",
    changed(num_epochs=-1): "out of bounds: epoch, num_epochs",
    changed(attempt=0): "out of bounds: attempt",
    changed(emitted_at=1e300): "out of bounds: emitted_at",
    changed(emitted_at="NaN"): "out of bounds: emitted_at",
    changed(images_per_second="-Infinity"): "out of bounds: images_per_second",
    changed(shot_group="weird"): "out of bounds: shot_group",
    changed(split="training"): "out of bounds: split",
    changed(class_name="x" * 4097): "out of bounds: class_name",
    event_line(an_event(StepEvent, step=11)): "out of bounds: step",
    event_line(an_event(RunEvent, state="paused")): "out of bounds: state",
    event_line(an_event(RunEvent, configuration="[]")): "out of bounds: configuration",
    event_line(an_event(RunEvent, configuration="{} {}")): "out of bounds: configuration",
    event_line(an_event(RunEvent, configuration="[" * 60_000)): "out of bounds: configuration",
    event_line(an_event(PseudoLabelEvent, class_id=10**10)): "out of bounds: class_id",
}
LIMITS = {
    "support": 10**12 - 1, "correct": 10**12 - 1, "predicted": 10**12 - 1, "class_id": 99_999, "attempt": 999_999,
    "epoch": 999_999, "num_epochs": 999_999, "emitted_at": 253_402_300_799.0, "class_name": "é" * 2048,
    "loss_sum": "NaN", "confidence_sum": "Infinity",
}  # fmt: skip
"""The largest values that a class event may have."""


def test_a_line_that_is_no_event_is_told_why(spark: SparkSession) -> None:
    lines = [LINE, "", *BAD, "   ", event_line(PLAIN[StepEvent]), changed(**LIMITS)]

    parsed = parsed_events(line_frame(spark, lines)).persist()
    told = {row.line: row.reason for row in bad_lines(parsed).collect()}
    kinds = [row.kind for row in good_events(parsed).collect()]
    parsed.unpersist()

    assert told == {line[:MAX_LINE_KEPT]: reason for line, reason in BAD.items()}
    assert sorted(kinds) == ["class", "class", "step"]


@dataclass(frozen=True, kw_only=True)
class LaterStepEvent(StepEvent):
    """A step event of a later version, with one field more."""

    memory: int | None = None


def test_lines_of_older_versions_lack_the_fields_that_came_later(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENT_KINDS, "step", LaterStepEvent)
    older = event_line(PLAIN[StepEvent])
    newer = event_line(LaterStepEvent(**dataclasses.asdict(PLAIN[StepEvent]), memory=7))

    parsed = parsed_events(line_frame(spark, [older, newer, older.replace('"step", ', '"stp", ')]))

    assert sorted(row.memory or 0 for row in good_events(parsed).collect()) == [0, 7]
    assert [row.reason for row in bad_lines(parsed).collect()] == ["unknown kind stp"]
    assert pc.match_substring_regex([older, newer], line_pattern(LaterStepEvent)).to_pylist() == [True, True]
    assert pc.match_substring_regex([older, newer], line_pattern(StepEvent)).to_pylist() == [True, False]


def test_of_a_very_long_line_the_beginning_is_kept(spark: SparkSession) -> None:
    (row,) = bad_lines(parsed_events(line_frame(spark, ["x" * 100_000]))).collect()

    assert row.line == "x" * MAX_LINE_KEPT and row.source == "a file"


@pytest.mark.parametrize("kind", EVENT_KINDS.values(), ids=EVENT_KINDS)
def test_what_an_event_holds_arrives_unchanged(spark: SparkSession, kind: type[Event]) -> None:
    changes = {"emitted_at": 1_700_000_000.123456}
    if kind is ClassEvent:
        changes |= {"class_name": 'naïve "quoted"\n名前', "loss_sum": 0.1 + 0.2, "confidence_sum": -math.inf}
    event = an_event(kind, **changes)

    (row,) = good_events(parsed_events(line_frame(spark, [event]))).collect()

    assert {name: row[name] for name in dataclasses.asdict(event)} == dataclasses.asdict(event)


def test_a_number_that_json_lacks_is_still_json() -> None:
    line = event_line(an_event(StepEvent, loss=math.nan))

    assert json.loads(line, parse_constant=pytest.fail)["loss"] == "NaN"
