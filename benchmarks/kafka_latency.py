"""How soon a class event's scores come out of Kafka after it went in: Spark's real-time trigger beside micro-batches.

    python -m benchmarks.kafka_latency [--messages 100]      # about 2 minutes, broker and Spark's start included

A broker of its own runs on this machine. Messages go in one by one; the latency of
each is the difference of the two times that the broker wrote down, of the event in
one topic and of its scores in the other. The peer is the same query with Spark's
shortest micro-batches.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.events.schema import event_line
from longtail.streaming.live.kafka import KAFKA_PACKAGE, start_score_stream
from longtail.streaming.live.kafka_brokers import KafkaConnection
from tests.broker import Broker
from tests.events import class_event

TRIGGERS = {"real time": {"realTime": "1 minute"}, "micro-batches": {"processingTime": "1 millisecond"}}
WARM_UP = 10
PATIENCE_SECONDS = 120


def send(spark: SparkSession, broker: Broker, topic: str, epoch: int) -> None:
    line = spark.createDataFrame([(event_line(class_event(epoch=epoch, num_epochs=10_000)),)], "value STRING")
    options = {"kafka.bootstrap.servers": broker.address, "topic": topic}
    line.coalesce(1).write.format("kafka").options(**options).save()


def times(spark: SparkSession, broker: Broker, topic: str) -> dict[int, float]:
    """When the broker got each epoch's message, in seconds."""
    options = {"kafka.bootstrap.servers": broker.address, "subscribe": topic}
    messages = spark.read.format("kafka").options(**options).load()
    rows = messages.select(F.col("value").cast("string"), F.unix_millis("timestamp").alias("millis")).collect()
    return {json.loads(row.value)["epoch"]: row.millis / 1000 for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100)
    num_messages = parser.parse_args().messages
    with tempfile.TemporaryDirectory() as root, Broker(Path(root) / "broker") as broker:
        # The real-time query holds a slot for each partition as long as it runs; messages are sent beside it.
        spark = spark_session("kafka_latency", SparkJobOptions(master="local[6]"), packages=(KAFKA_PACKAGE,))
        for name, trigger in TRIGGERS.items():
            topic = name.replace(" ", "-")
            send(spark, broker, topic, 0)
            query = start_score_stream(
                spark,
                kafka=KafkaConnection(broker.address),
                topic=topic,
                output_topic=f"{topic}-scores",
                state_dir=Path(root) / topic,
                trigger=trigger,
            )
            for epoch in range(1, WARM_UP + num_messages):
                send(spark, broker, topic, epoch)
                time.sleep(0.1)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(came := times(spark, broker, f"{topic}-scores")) < WARM_UP + num_messages:
                if query.exception() or time.monotonic() > deadline:
                    raise RuntimeError(f"{len(came)} messages came: {query.exception()}")
                time.sleep(1)
            query.stop()
            went = times(spark, broker, topic)
            millis = [1000 * (came[epoch] - went[epoch]) for epoch in range(WARM_UP, WARM_UP + num_messages)]
            p50, p99 = np.percentile(millis, [50, 99])
            print(f"{name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms over {num_messages} messages", flush=True)
        spark.stop()


if __name__ == "__main__":
    main()
