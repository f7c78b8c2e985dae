"""A real Spark Connect server, started from the pip package on loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

from longtail.spark_jobs.cluster.settings import PRELOADED_WORKERS
from tests.cluster import LOOPBACK, free_port, quick_java

SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
START_SECONDS = 180


@contextmanager
def connect_server(directory: Path) -> Iterator[str]:
    """The URL of a server with two slots; its log is in the directory."""
    port = free_port()
    settings = {
        "spark.connect.grpc.binding.address": LOOPBACK,
        "spark.connect.grpc.binding.port": str(port),
        "spark.ui.enabled": "false",
        "spark.python.daemon.module": PRELOADED_WORKERS,
    }
    command = [SUBMIT, "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--master", "local[2]"]
    for key, value in settings.items():
        command += ["--conf", f"{key}={value}"]
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_SUBMIT_OPTS": quick_java(),
    }
    with (directory / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_it_listens(port, server)
            yield f"sc://{LOOPBACK}:{port}"
        finally:
            server.terminate()
            server.wait()


def _wait_until_it_listens(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
