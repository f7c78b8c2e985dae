"""The score stream over a real broker, in a process whose Spark session has the connector: prints the scores' messages.

python -m tests.score_process BROKER STATE_DIR
"""

import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.events.schema import ConfusionEvent, event_line
from longtail.streaming.live.kafka import KAFKA_PACKAGE, start_score_stream
from longtail.streaming.live.kafka_brokers import KafkaConnection
from tests.events import an_event, class_event

EVENTS, SCORES = "events", "scores"
FIRST = "{}"
"""A message that makes the topic of the scores: who reads one that is not there fails."""
PATIENCE_SECONDS = 240


def send(spark: SparkSession, broker: str, *lines: str, topic: str = EVENTS) -> None:
    frame = spark.createDataFrame([(line,) for line in lines], "value STRING").coalesce(1)
    frame.write.format("kafka").options(**{"kafka.bootstrap.servers": broker, "topic": topic}).save()


def scores(spark: SparkSession, broker: str) -> set[str]:
    messages = spark.read.format("kafka").options(**{"kafka.bootstrap.servers": broker, "subscribe": SCORES}).load()
    return {row.value for row in messages.selectExpr("CAST(value AS STRING)").collect()} - {FIRST}


def main() -> None:
    broker, state_dir = sys.argv[1], Path(sys.argv[2])
    # In real time a query holds a slot for each of the two partitions.
    spark = spark_session("scores", SparkJobOptions(master="local[4]"), packages=(KAFKA_PACKAGE,))
    send(spark, broker, FIRST, topic=SCORES)
    base, semi = event_line(class_event()), event_line(class_event(run="semi", support=0, correct=0))
    sent = [
        ({"realTime": "5 minutes"}, [base, "not JSON", event_line(an_event(ConfusionEvent)), semi], 2),
        ({"processingTime": "1 second"}, [event_line(class_event(epoch=2, correct=1))], 3),
    ]
    for trigger, lines, expected in sent:
        send(spark, broker, *lines)
        query = start_score_stream(
            spark,
            kafka=KafkaConnection(broker),
            topic=EVENTS,
            output_topic=SCORES,
            state_dir=state_dir,
            trigger=trigger,
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found := scores(spark, broker)) < expected:
            if query.exception() or time.monotonic() > deadline:
                raise RuntimeError(f"{len(found)} scores came: {query.exception()}")
            time.sleep(0.5)
        query.stop()
    print("\n".join(sorted(scores(spark, broker))))
    spark.stop()


if __name__ == "__main__":
    main()
