"""Metric events through Kafka, with Spark's own connector: DataFrames of lines in both directions.

The connector is not part of the pyspark package: a session needs KAFKA_PACKAGE (spark.jars.packages, or --packages of
spark-submit). A message is one event, with the same text as a line of an event file; its key is the run, so that
the events of a run stay in order.
"""

from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from longtail.conf.base.locations import Location, spark_uri
from longtail.streaming.events.schema import ClassEvent
from longtail.streaming.live.kafka_brokers import KafkaConnection
from longtail.streaming.live.starting import PatientQuery
from longtail.streaming.live.trigger import with_trigger
from longtail.streaming.parsing.lines import LINE, MAX_LINE_KEPT, SOURCE, TOO_LONG, good_events, parsed_events
from longtail.streaming.queries import class_scores, events_of

KAFKA_PACKAGE = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
"""The newest version on Maven Central; it works with the Spark 4.3 that is tested (tests/test_kafka.py)."""
MAX_KEY = 1000
"""Characters: names of runs are shorter, and a line that is no event may have any."""
MESSAGE_OVERHEAD = 512
"""Bytes that Kafka adds to key and text, at most."""
MAX_MESSAGES_PER_BATCH = 100_000
"""The backlog at the start of a query is read in batches of this size, which bounds memory."""


def kafka_lines(
    spark: SparkSession, *, kafka: KafkaConnection, topic: str, max_messages: int | None = MAX_MESSAGES_PER_BATCH
) -> DataFrame:
    """The messages of a topic, from its beginning, as a streaming DataFrame of lines (value, source).

    max_messages: per micro-batch; None: no limit, the only choice that the real-time trigger supports
    """
    options = {**kafka.options(), "subscribe": topic, "startingOffsets": "earliest"}
    if max_messages is not None:
        options["maxOffsetsPerTrigger"] = str(max_messages)
    messages = spark.readStream.format("kafka").options(**options).load()
    source = F.format_string("%s, partition %d, offset %d", "topic", "partition", "offset")
    return messages.select(F.col("value").cast("string").alias(LINE), source.alias(SOURCE))


def start_relay(
    lines: DataFrame,
    *,
    kafka: KafkaConnection,
    topic: str,
    max_message_bytes: int,
    state_dir: Location,
    trigger: str | None,
) -> PatientQuery:
    """Send lines (value, source) to a topic as they arrive.

    max_message_bytes: of a line that is longer with its key, the beginning is sent, which readers put into the
        quarantine
    trigger: how often ("1 second"); None: send the lines that exist and end
    state_dir: a query with the same state_dir continues where it was stopped. A line may be sent twice then; readers
    deduplicate
    """
    key = F.substring(F.get_json_object(LINE, "$.run"), 1, MAX_KEY).alias("key")
    writer = (
        lines.where(F.trim(LINE) != "")
        .select(key, _shortened(key, max_message_bytes).alias(LINE))
        .writeStream.format("kafka")
        .options(**kafka.options())
        .option("topic", topic)
        .option("checkpointLocation", spark_uri(state_dir))
        .queryName("longtail relay")
    )
    return PatientQuery(with_trigger(writer, trigger).start)


def _shortened(key: Column, max_message_bytes: int) -> Column:
    """The line, or of one that is too long for a message its beginning, marked as such."""
    num_bytes = F.octet_length(LINE)
    room = max_message_bytes - MESSAGE_OVERHEAD
    # A character takes up to four bytes.
    kept = max(0, min(MAX_LINE_KEPT, (room - MAX_KEY * 4) // 4))
    text = f"{TOO_LONG}: %d bytes, and the topic takes {room}: %s"
    too_long = num_bytes + F.coalesce(F.octet_length(key), F.lit(0)) > room
    return F.when(too_long, F.format_string(text, num_bytes, F.substring(LINE, 1, kept))).otherwise(F.col(LINE))


def start_score_stream(
    spark: SparkSession,
    *,
    kafka: KafkaConnection,
    topic: str,
    output_topic: str,
    state_dir: Path,
    trigger: dict[str, str],
) -> StreamingQuery:
    """Send each class event of a topic with its scores, as JSON, to another topic.

    trigger: {"processingTime": "1 second"} processes micro-batches at this interval. {"realTime": "5 minutes"}
    processes each message as it arrives, in batches of this duration, and occupies one task slot per partition of the
    topic. The tables of streaming/live/keeper.py have no real-time mode: Spark offers none for foreachBatch, nor for
    Python functions.
    """
    lines = kafka_lines(spark, kafka=kafka, topic=topic, max_messages=None)
    events = events_of(good_events(parsed_events(lines)), ClassEvent)
    return (
        class_scores(events)
        .select(F.col("run").alias("key"), F.to_json(F.struct("*")).alias("value"))
        .writeStream.format("kafka")
        .outputMode("update")
        .options(**kafka.options())
        .option("topic", output_topic)
        .option("checkpointLocation", spark_uri(state_dir))
        .trigger(**trigger)
        .queryName("longtail scores")
        .start()
    )
