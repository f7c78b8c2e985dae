"""A streaming query goes on if a process of Python was too late, and ends with every other error."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from longtail.streaming.live.starting import MAX_STARTS, PatientQuery

TOO_LATE = "Python worker failed to connect back."
"""What Spark says of it."""


def rates(spark: SparkSession, checkpoint: Path, process: Callable[[list[int]], None]) -> Callable[[], StreamingQuery]:
    """Starts a query of ten numbers in each batch, which Spark repeats if they were not processed."""
    numbers = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", "10").load().select("value")

    def process_batch(batch: DataFrame, batch_id: int) -> None:
        process(sorted(row.value for row in batch.collect()))

    writer = numbers.writeStream.option("checkpointLocation", str(checkpoint)).foreachBatch(process_batch)
    return writer.trigger(processingTime="100 milliseconds").start


def test_a_query_whose_process_came_too_late_goes_on_where_it_was(spark: SparkSession, tmp_path: Path) -> None:
    tries: list[list[int]] = []
    done: list[int] = []

    def process(values: list[int]) -> None:
        tries.append(values)
        if len(tries) in (2, 3, 5):
            raise RuntimeError(TOO_LATE)
        done.extend(values)

    query = PatientQuery(rates(spark, tmp_path / "checkpoint", process))
    deadline = time.monotonic() + 120
    while len(done) < 50 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert query.isActive and query.exception() is None and query.lastProgress
    query.stop()
    assert not query.isActive and query.awaitTermination()
    assert len(done) >= 50 and done == [*range(len(done))]


@pytest.mark.parametrize(("error", "num_starts"), [(TOO_LATE, MAX_STARTS), ("anything else", 1)])
def test_a_query_that_never_works_or_fails_otherwise_ends_with_its_error(
    spark: SparkSession, tmp_path: Path, error: str, num_starts: int
) -> None:
    tries: list[int] = []

    def process(values: list[int]) -> None:
        tries.append(len(values))
        raise RuntimeError(error)

    query = PatientQuery(rates(spark, tmp_path / "checkpoint", process))
    with pytest.raises(StreamingQueryException, match=error):
        query.awaitTermination()
    assert not query.isActive and error in str(query.exception())
    assert tries == [10] * num_starts
