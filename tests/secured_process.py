"""The jobs against brokers that ask for passwords, over TLS too, in one process whose Spark session has the connector.

python -m tests.secured_process DIRECTORY

Prints what each job said, as one JSON line: its name, arguments, exit status, output and messages.
"""

import contextlib
import io
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cli import job_main, run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.events.schema import RunEvent, event_line
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live import kafka_brokers
from longtail.streaming.live.kafka import KAFKA_PACKAGE, kafka_lines
from longtail.streaming.live.kafka_brokers import KafkaAdmin, KafkaConnection
from longtail.streaming.tables.reading import read_result_table
from tests.events import an_event, class_event
from tests.secured_broker import (
    PLAIN_MODULE,
    PLAIN_PASSWORD,
    PLAIN_USER,
    SCRAM_MODULE,
    SCRAM_PASSWORD,
    SCRAM_USER,
    certificate_of,
    jaas,
    secured_broker,
)

TOPIC, OTHER_TOPIC = "longtail-events", "other"
LONG_LINE = '{"kind": "class", "run": "' + "x" * 250_000


def job(name: str, *arguments: object, said: tuple[str, Callable[[str], object]] | None = None) -> None:
    """Run a job and print what it said. said: a text of the job, and what is done with all its text while it runs."""
    given = [str(argument) for argument in arguments]
    status: Any = 0
    began = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        if said:
            threading.Thread(target=_when_said, args=((out, err), *said), daemon=True).start()
        try:
            run_job(name, job_main(name), given)
        except SystemExit as ending:
            status = ending.code
    outcome = {"job": name, "arguments": given, "status": status, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps({**outcome, "seconds": time.monotonic() - began}), flush=True)


def _when_said(streams: Sequence[io.StringIO], text: str, act: Callable[[str], object]) -> None:
    while text not in (said := "".join(stream.getvalue() for stream in streams)):
        time.sleep(0.2)
    act(said)


def keep_state_and_interrupt(page_dir: Path, file: Path, said: str) -> None:
    """Write the state of a dashboard's page into a file as soon as there is an epoch, and press Ctrl-C."""
    (url,) = re.findall(r"dashboard: (http://127\.0\.0\.1:\d+/) ", said)
    while not read_result_table(page_dir, "epochs").num_rows:
        time.sleep(0.2)
    with urllib.request.urlopen(f"{url}state", timeout=60) as reply:
        file.write_bytes(reply.read())
    os.kill(os.getpid(), signal.SIGINT)


def create_topic(spark: SparkSession, broker: str, topic: str) -> None:
    with KafkaAdmin(spark, KafkaConnection(broker)) as admin:
        new = admin._jvm.org.apache.kafka.clients.admin.NewTopic(topic, 2, 1)
        admin._answer(admin._client.createTopics(admin._jvm.java.util.Collections.singleton(new)).all())


def plans(spark: SparkSession) -> str:
    """All plans as Spark's web page shows them."""
    session: Any = spark._jsparkSession
    executions = session.sharedState().statusStore().executionsList()
    return "\n".join(
        executions.apply(n).physicalPlanDescription() + str(executions.apply(n).modifiedConfigs())
        for n in range(executions.size())
    )


def main() -> None:
    directory = Path(sys.argv[1])
    with secured_broker(directory / "broker") as broker:
        certificate = certificate_of(directory / "broker")
        os.environ["SCRAM_JAAS"] = jaas(SCRAM_MODULE, SCRAM_USER, SCRAM_PASSWORD)
        (directory / "plain.jaas").write_text(jaas(PLAIN_MODULE, PLAIN_USER, PLAIN_PASSWORD) + "\n")
        (directory / "tls.properties").write_text(
            "security.protocol=SASL_SSL\nsasl.mechanism: SCRAM-SHA-256\nsasl.jaas.config = env:SCRAM_JAAS\n"
            f"ssl.truststore.type=PEM\nssl.truststore.certificates=file:{certificate}\n"
        )
        plain = [
            "--kafka_option", "security.protocol=SASL_PLAINTEXT", "--kafka_option", "sasl.mechanism=PLAIN",
            "--kafka_option", f"sasl.jaas.config=file:{directory / 'plain.jaas'}",
        ]  # fmt: skip
        runs_dir = directory / "runs"
        writer = EventWriter(runs_dir / "events", run="base", attempt=1)
        writer.write_epoch(1, [class_event(), an_event(RunEvent, epoch=1)])
        (runs_dir / "events" / "long.jsonl").write_text(f"{LONG_LINE}\n{event_line(class_event(run='after'))}\n")

        os.chdir(directory)
        spark = spark_session("tests", SparkJobOptions(master="local[2]"), packages=(KAFKA_PACKAGE,))
        tls = ["--bootstrap_servers", broker.addresses["TLS"], "--kafka_config", directory / "tls.properties"]
        password = ["--bootstrap_servers", broker.addresses["PASSWORD"], *plain]

        usual, kafka_brokers.ANSWER_SECONDS = kafka_brokers.ANSWER_SECONDS, 60  # a busy machine's brokers are slow
        waiting = "waiting for the topic"
        job("relay", *tls, "--once", said=(waiting, lambda said: create_topic(spark, broker.address, TOPIC)))
        job("monitor", "--source", "kafka", *password, "--once")
        create_topic(spark, broker.address, OTHER_TOPIC)
        job("monitor", "--source", "kafka", *password, "--once", "--topic", OTHER_TOPIC)
        job("monitor", "--once")
        job("monitor", "--once", "--new_checkpoint")
        job("monitor", "--source", "kafka", *password, "--once", "--new_checkpoint")
        page_dir = directory / "page"
        keep_state = partial(keep_state_and_interrupt, page_dir, directory / "state.json")
        page = ["--source", "kafka", *password, "--port", 0, "--output_dir", page_dir]
        job("dashboard", *page, said=("dashboard: http", keep_state))
        wrong = jaas(PLAIN_MODULE, PLAIN_USER, f"not-{PLAIN_PASSWORD}")
        job("monitor", "--source", "kafka", *password, "--kafka_option", f"sasl.jaas.config={wrong}", "--once")
        job("monitor", "--source", "kafka", *tls, "--kafka_option", "ssl.truststore.certificates=env:EMPTY", "--once")
        job("monitor", "--source", "kafka", *password, "--kafka_option", "security.protocl=SSL", "--once")
        job("monitor", "--source", "kafka", *password, "--kafka_option", "security.protocol=FTP", "--once")
        kafka_brokers.ANSWER_SECONDS = usual
        job("monitor", "--source", "kafka", "--bootstrap_servers", broker.addresses["TLS"], "--once")
        settings = {"security.protocol": "SASL_PLAINTEXT", "sasl.jaas.config": os.environ["SCRAM_JAAS"]}
        kafka = KafkaConnection(broker.addresses["PASSWORD"], settings)
        frame: Any = kafka_lines(spark, kafka=kafka, topic=TOPIC)._jdf
        (directory / "plans.txt").write_text(f"{plans(spark)}\n{frame.queryExecution()}\n{kafka}")
        spark.stop()


if __name__ == "__main__":
    main()
