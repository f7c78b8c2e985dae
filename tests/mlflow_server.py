"""A real MLflow server for tests: a process of its own, whose runs are in SQLite and whose artifacts are files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.broker import free_port
from tests.stores import answers, running


@contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """Its URL. All that it keeps, and its output, are in ``directory``."""
    port = free_port()
    command = [
        "env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", sys.executable, "-m", "mlflow", "server", "--workers", 1,
        "--host", "127.0.0.1", "--port", port, "--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}",
        "--artifacts-destination", directory / "files",
    ]  # fmt: skip
    with running(command, directory, is_ready=lambda: answers(f"http://127.0.0.1:{port}/health")):
        yield f"http://127.0.0.1:{port}"
