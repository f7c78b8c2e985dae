"""Send the metric events of running trainings to a Kafka topic.

    longtail relay --runs_dir runs --bootstrap_servers HOST:9092 --topic longtail-events
    spark-submit spark_jobs/relay.py --runs_dir runs --bootstrap_servers HOST:9092

Trainings write files only, so that they need neither Kafka nor its clients; this job sends their events, one per
message, for `longtail monitor --source kafka` on any machine. Ctrl-C stops the relay; the same command resumes it.
--once sends the events that exist and ends. For spark-submit, put before the script
--packages org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.live import RelayOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.event_source import destination, kafka_connection
from longtail.streaming.event_files.source import file_lines
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.checkpoint import claim_checkpoint, held_checkpoint
from longtail.streaming.live.kafka import KAFKA_PACKAGE, start_relay
from longtail.streaming.runs.own_directories import RELAY_DIRECTORY


def main(argv: Sequence[str]) -> None:
    options = parse_options(RelayOptions, argv, prog="longtail relay")
    if not options.runs_dir.is_dir():
        raise UserError(f"there is no directory {options.runs_dir}: name the --runs_dir of the trainings to relay")
    kafka = kafka_connection(options, options.bootstrap_servers)
    spark = spark_session("relay", options, packages=(KAFKA_PACKAGE,))
    name, max_message_bytes = destination(spark, options, kafka)
    state_dir = options.runs_dir / RELAY_DIRECTORY / options.topic
    with held_checkpoint(state_dir):
        claim_checkpoint(state_dir, name, new=options.new_checkpoint)
        query = start_relay(
            file_lines(spark, options.runs_dir / EVENTS_DIRECTORY, state_dir),
            kafka=kafka,
            topic=options.topic,
            max_message_bytes=max_message_bytes,
            state_dir=state_dir,
            trigger=None if options.once else options.trigger,
        )
        try:
            query.awaitTermination()
        finally:
            query.stop()  # in a session that goes on after the job, it would too
    print(f"sent: {options.runs_dir / EVENTS_DIRECTORY} to {options.topic} at {options.bootstrap_servers}")


if __name__ == "__main__":
    run_job("relay", main, sys.argv[1:])
