"""Metric events through Kafka, by Spark's own connector: DataFrames of lines in, and lines out.

The connector is no part of the pyspark package: a session needs KAFKA_PACKAGE
(spark.jars.packages, or --packages of spark-submit). A message is one event, the
line that an event file would have; its key is the run, so that a run's events keep
their order.
"""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from longtail.streaming.events.schema import ClassEvent
from longtail.streaming.parsing.lines import LINE, SOURCE, good_events, parsed_events
from longtail.streaming.queries import class_scores, events_of

KAFKA_PACKAGE = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
"""The newest that Maven Central has; it works with the Spark 4.3 that is pinned (tests/test_kafka.py)."""
MAX_MESSAGES_A_BATCH = 100_000
"""What waits in the topic when a query starts comes in batches of this size, so that memory is bounded."""


def kafka_lines(
    spark: SparkSession, *, bootstrap_servers: str, topic: str, max_messages: int | None = MAX_MESSAGES_A_BATCH
) -> DataFrame:
    """The messages of a topic, from its beginning, as a streaming DataFrame of lines (value, source).

    max_messages: in a micro-batch; None: as many as wait, which is all that the real-time trigger takes
    """
    options = {"kafka.bootstrap.servers": bootstrap_servers, "subscribe": topic, "startingOffsets": "earliest"}
    if max_messages is not None:
        options["maxOffsetsPerTrigger"] = str(max_messages)
    messages = spark.readStream.format("kafka").options(**options).load()
    place = F.format_string("%s, partition %d, offset %d", "topic", "partition", "offset")
    return messages.select(F.col("value").cast("string").alias(LINE), place.alias(SOURCE))


def start_relay(
    lines: DataFrame, *, bootstrap_servers: str, topic: str, state_dir: Path, trigger: str | None
) -> StreamingQuery:
    """Send lines (value, source) to a topic as they come; trigger None: what is there, then end.

    With the same state_dir it goes on where it was stopped. A line may be sent again then; readers count it once.
    """
    key = F.get_json_object(LINE, "$.run").alias("key")
    return (
        lines.where(F.trim(LINE) != "")
        .select(key, LINE)
        .writeStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .option("topic", topic)
        .option("checkpointLocation", str(state_dir.absolute()))
        .trigger(**({"availableNow": True} if trigger is None else {"processingTime": trigger}))
        .queryName("longtail relay")
        .start()
    )


def start_score_stream(
    spark: SparkSession,
    *,
    bootstrap_servers: str,
    topic: str,
    output_topic: str,
    state_dir: Path,
    trigger: dict[str, str],
) -> StreamingQuery:
    """Each class event of a topic with its scores, as JSON to another topic.

    trigger: {"realTime": "5 minutes"} takes each message as it comes, in batches that last so long; it holds a task
    slot for each partition of the topic. {"processingTime": "1 second"} takes them in micro-batches. The tables of
    streaming/live/keeper.py have no real-time mode: Spark has none for foreachBatch, nor for Python functions.
    """
    lines = kafka_lines(spark, bootstrap_servers=bootstrap_servers, topic=topic, max_messages=None)
    events = events_of(good_events(parsed_events(lines)), ClassEvent)
    return (
        class_scores(events)
        .select(F.col("run").alias("key"), F.to_json(F.struct("*")).alias("value"))
        .writeStream.format("kafka")
        .outputMode("update")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .option("topic", output_topic)
        .option("checkpointLocation", str(state_dir.absolute()))
        .trigger(**trigger)
        .queryName("longtail scores")
        .start()
    )
