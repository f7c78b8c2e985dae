"""The tables that Arrow and numpy compute are those that plain Python makes of their definitions."""

import math
import random
import warnings
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from longtail.streaming.events.schema import ClassEvent, Event, PredictionEvent, PseudoLabelEvent, RunEvent
from longtail.streaming.kernels.groups import Groups, ordinals
from longtail.streaming.tables.schemas import LATEST_WINDOWS, TABLES
from tests.analytics import rounded
from tests.arrow_tables import arrow_tables
from tests.events import an_event, batch_tables
from tests.histories import histories
from tests.plain_tables import plain_tables


def computed(events: list[Event], *, first_epoch: int = 1) -> dict[str, list[dict[str, Any]]]:
    return {name: table.to_pylist() for name, table in arrow_tables(events, first_epoch=first_epoch).items()}


@settings(max_examples=25, deadline=None)
@given(events=histories(), data=st.data())
def test_tables_are_as_defined_in_any_order_with_repetitions_and_in_two_parts(
    events: list[Event], data: st.DataObject
) -> None:
    drawn = [*events, *data.draw(st.lists(st.sampled_from(events), max_size=20))]
    random.Random(data.draw(st.integers(0, 9))).shuffle(drawn)
    found = computed(drawn, first_epoch=data.draw(st.integers(1, 7)))
    for name, rows in plain_tables(events).items():
        columns = [column for column in TABLES[name].names if rows and column in rows[0]]
        assert rounded(found[name], columns) == rounded(rows, columns), name


def test_without_events_there_are_no_rows() -> None:
    assert not any(computed([]).values())


def test_of_events_of_the_same_moment_the_largest_counts_in_any_order() -> None:
    values = [None, 0.25, float("nan"), 0.5]
    labels = [an_event(PseudoLabelEvent, mean_confidence=value) for value in values]
    for events in (labels, labels[::-1]):
        (row,) = computed(events)["pseudo_labels"]
        assert str(row["mean_confidence"]) == "nan", "as Spark orders them: null, numbers, NaN"


def test_the_latest_windows_of_each_stream_are_kept(spark: SparkSession) -> None:
    numbers = [*range(LATEST_WINDOWS + 2)]
    random.Random(0).shuffle(numbers)
    events = [
        an_event(PredictionEvent, stream=stream, window_start=600.0 * number, class_id=c)
        for number in numbers for c in range(2) for stream in "ab" if stream == "a" or number < 3
    ]  # fmt: skip
    expected = [("a", n, c) for n in range(2, LATEST_WINDOWS + 2) for c in range(2)]
    expected += [("b", n, c) for n in range(3) for c in range(2)]
    for rows in (computed(events)["predictions"], batch_tables(spark, events)["predictions"].to_pylist()):
        assert sorted((row["stream"], row["window_start"] // 600, row["class_id"]) for row in rows) == expected
    assert not computed(events)["runs"], "a prediction says nothing of the training"


def test_values_are_ordered_as_spark_orders_them() -> None:
    table = pa.table({"real": [float("nan"), None, 2.0, -1.0], "text": ["b", "é", None, "a"], "whole": [3, None, 7, 5]})
    found = {name: ordinals(table, name).argsort(kind="stable").tolist() for name in table.column_names}
    assert found == {"real": [1, 3, 2, 0], "text": [2, 3, 0, 1], "whole": [1, 0, 3, 2]}


def test_groups_are_in_the_order_of_their_keys() -> None:
    table = pa.table({"run": ["b", "a", "b", "a"], "epoch": [1, 2, 1, 1], "loss": [1.0, 2.0, 4.0, 8.0]})
    groups = Groups(table, ["run", "epoch"])
    assert (groups.first.tolist(), groups.last.tolist()) == ([3, 1, 0], [3, 1, 2])
    assert groups.sum(table["loss"].to_numpy()).tolist() == [8, 2, 5]
    assert groups.of_rows(groups.max(table["loss"].to_numpy())).tolist() == [4, 2, 4, 8]


@pytest.mark.parametrize("sum_of", ["loss_sum", "confidence_sum"])
def test_a_sum_that_is_not_a_number_is_shown_as_such_and_not_as_unknown(sum_of: str) -> None:
    events = [an_event(ClassEvent, **{sum_of: float("nan")}), an_event(RunEvent)]
    (row,) = computed(events)["epochs"]
    assert str(row[{"loss_sum": "loss", "confidence_sum": "calibration_gap"}[sum_of]]) == "nan"
    assert row["balanced_accuracy"] is not None


def test_sums_beyond_the_largest_number_are_infinite_and_nobody_is_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            computed([an_event(ClassEvent, class_id=c, loss_sum=loss) for c, loss in enumerate(losses)])["epochs"]
            for losses in ((1e308, 1e308), (math.inf, -math.inf))
        ]
    assert [str(row["loss"]) for (row,) in found] == ["inf", "nan"]
