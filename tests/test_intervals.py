"""The interval of a class's accuracy (streaming/intervals.py), by the quadratic equation that defines it."""

import math

import numpy as np
import pytest
from pyspark.sql import SparkSession
from scipy.stats import binomtest

from longtail.streaming.intervals import wilson_interval
from longtail.streaming.parsing.lines import good_events, parsed_events
from longtail.streaming.queries import class_scores
from tests.events import class_event, line_frame

MANY = 10**12 - 1
COUNTS = [(0, 5), (4, 5), (5, 5), (1, 1), (0, 1), (30, 100), (999_999, 10**6), (MANY, MANY), (1, MANY)]


@pytest.mark.parametrize(("correct", "support"), COUNTS)
def test_the_interval_is_that_of_scipy(correct: int, support: int) -> None:
    low, high = wilson_interval(correct / support, support, sqrt=math.sqrt)

    if support < 10**9:
        theirs = binomtest(correct, support).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert 0 <= low <= correct / support <= high <= 1
    assert (low == 0) == (correct == 0) and (high == 1) == (correct == support)


def test_of_five_images_four_correct_ones_say_little() -> None:
    assert wilson_interval(0.8, 5.0, sqrt=math.sqrt) == pytest.approx((0.37553, 0.96378), abs=1e-5)


def test_spark_columns_have_the_intervals_of_their_numbers(spark: SparkSession) -> None:
    expected = np.array([wilson_interval(correct / support, support, sqrt=math.sqrt) for correct, support in COUNTS])
    events = [class_event(class_id=i, correct=c, support=n) for i, (c, n) in enumerate([*COUNTS, (0, 0)])]

    scored = class_scores(good_events(parsed_events(line_frame(spark, events)))).orderBy("class_id").toArrow()

    found = list(zip(scored["accuracy_low"].to_pylist(), scored["accuracy_high"].to_pylist(), strict=True))
    np.testing.assert_allclose(np.array(found[:-1]), expected, rtol=1e-12)
    assert found[-1] == (None, None)
