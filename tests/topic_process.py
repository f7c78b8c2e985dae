"""`predict --stream` from a Kafka topic whose brokers ask for a password, killed in the middle of a micro-batch.

python -m tests.topic_process DIRECTORY CHECKPOINT IMAGE...

Sends the files of images to a topic, each under three keys, and one message without a value. Starts the job in a
process of its own, kills that with SIGKILL while it predicts, and runs it again in this one, whose session has the
connector. Prints what each job said there, as tests/secured_process.py does.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.live.kafka import KAFKA_PACKAGE
from tests.conftest import SCRIPTS
from tests.secured_broker import PLAIN_MODULE, PLAIN_PASSWORD, PLAIN_USER, jaas, secured_broker
from tests.secured_process import create_topic, job

TOPIC = "images"
PATIENCE_SECONDS = 300


def main() -> None:
    directory, checkpoint = Path(sys.argv[1]), sys.argv[2]
    contents = [Path(file).read_bytes() for file in sys.argv[3:]]
    os.chdir(directory)
    with secured_broker(directory / "broker") as broker:
        os.environ["BOBS_JAAS"] = jaas(PLAIN_MODULE, PLAIN_USER, PLAIN_PASSWORD)
        spark = spark_session("tests", SparkJobOptions(master="local[2]"), packages=(KAFKA_PACKAGE,))
        create_topic(spark, broker.address, TOPIC)
        rows = [(f"{copy}/{number}".encode(), one) for copy in range(3) for number, one in enumerate(contents)]
        spark.createDataFrame([*rows, (b"\xff", None)], "key binary, value binary").write.format("kafka").options(
            **{"kafka.bootstrap.servers": broker.address, "topic": TOPIC}
        ).save()
        options = [
            "--resume", checkpoint, "--output", "table", "--stream", "--topic", TOPIC, "--on_bad_image", "skip",
            "--bootstrap_servers", broker.addresses["PASSWORD"], "--kafka_option", "sasl.mechanism=PLAIN",
            "--kafka_option", "security.protocol=SASL_PLAINTEXT", "--kafka_option", "sasl.jaas.config=env:BOBS_JAAS",
        ]  # fmt: skip
        _killed_in_a_batch(options, directory / "table")
        job("predict", *options, "--once")
        job("predict", *options, "--once", "--kafka_option", "sasl.jaas.config=env:NOBODYS")
        spark.stop()


def _killed_in_a_batch(options: list[str], table: Path) -> None:
    with (table.parent / "killed.txt").open("w") as said:
        victim = subprocess.Popen([SCRIPTS / "longtail", "predict", *options], stdout=said, stderr=said)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not list(table.glob(".batch=0.*")):
            assert victim.poll() is None and time.monotonic() < deadline, (table.parent / "killed.txt").read_text()
            time.sleep(0.01)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    assert not (table / "batch=0").exists(), "it was killed too late"


if __name__ == "__main__":
    main()
