"""--mlflow (spark_jobs/tracking/): what trainings and a monitor log in a real MLflow server, and the logged model."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from longtail.spark_jobs.tracking.mlflow_model import COLUMNS
from longtail.spark_jobs.tracking.mlflow_server import EXPERIMENT, PASSWORD, USER, mlflow_client
from longtail.spark_jobs.tracking.mlflow_sink import MlflowSink
from longtail.streaming.events.schema import INTERRUPTED
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.writing import write_run
from tests.broker import free_port
from tests.conftest import SCRIPTS, RunJob
from tests.mlflow_server import mlflow_server
from tests.stores import answers, running

SECRET = "sesame-of-the-tests"
NAME = "digits-resnet20-train-CE-None-"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def with_password(server: str) -> str:
    return server.replace("http://", f"http://user:{SECRET}@")


class StopsAfter:
    """A client of a process that is killed when it has sent so many requests."""

    def __init__(self, client: object, num_requests: int) -> None:
        self._client, self._left = client, num_requests

    def __getattr__(self, name: str) -> object:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return getattr(self._client, name)


@pytest.mark.long
def test_a_server_that_does_not_answer_is_one_line_before_anything_is_written(job: RunJob, tmp_path: Path) -> None:
    uri = f"http://user:{SECRET}@127.0.0.1:{free_port()}"
    done = job("train", "--mlflow", uri)
    assert done.returncode == 2 and done.stderr.startswith(
        "longtail train: error: --mlflow: the server does not answer"
    )
    assert len(done.stderr.splitlines()) == 1 and SECRET not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []


def test_mlflow_alone_takes_the_servers_address_from_the_environment(
    job: RunJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = job("train", "--mlflow", "--epochs", 1)
    message = "--mlflow: the environment variable MLFLOW_TRACKING_URI is not set: set it, or name another one"
    assert (done.returncode, done.stderr) == (2, f"longtail train: error: {message}\n")


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_a_training_is_one_run_of_mlflow_with_a_model_that_predicts_as_longtail_does(
    job: RunJob, spark: SparkSession, with_password: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_password)
    monkeypatch.setenv(EXPERIMENT, "digits")
    done = job("train", "--epochs", 3, "--threads", 1, "--mlflow")
    assert done.returncode == 0, done.stderr
    said = [done.stdout, done.stderr]
    # A finished training, and a monitor of runs that are over, find that everything is there.
    for again in (("train", "--epochs", 3, "--threads", 1), ("monitor", "--once")):
        repeated = job(*again, "--mlflow")
        assert repeated.returncode == 0, repeated.stderr
        said += [repeated.stdout, repeated.stderr]

    assert USER not in os.environ and PASSWORD not in os.environ
    with mlflow_client(server) as (client, experiment):
        (run,) = client.search_runs([experiment])
        run_id, (run_dir,) = run.info.run_id, tmp_path.glob(f"runs/{NAME}*")
        result = json.loads((run_dir / "result.json").read_text())
        assert (run.info.run_name, run.info.status, run.data.tags["longtail.phase"]) == (
            run_dir.name, "FINISHED", "train",
        )  # fmt: skip
        assert {name: run.data.params[name] for name in ("epochs", "imb_factor", "mlflow")} == {
            "epochs": "3", "imb_factor": "0.05", "mlflow": "env:MLFLOW_TRACKING_URI",
        }  # fmt: skip
        scores = result["splits"]["test"]
        names = ("balanced_accuracy", "many_shot_accuracy", "few_shot_accuracy", "loss")
        for name in names:
            assert run.data.metrics[f"test/{name}"] == pytest.approx(scores[name])
        histories = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
        assert {name: [value.step for value in values] for name, values in histories.items()} == {
            name: [1, 2, 3] for name in histories
        }
        files = {file.path for place in ("", "plots", "model") for file in client.list_artifacts(run_id, place)}
        assert files >= {"result.json", "model_card.md", "plots/confusion_test.png", "model/MLmodel"}
        assert SECRET not in "".join(said)
        assert [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()] == []

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    pictures = write_pictures(tmp_path / "pictures")
    assert job("predict", "--resume", run_dir / "ckpt.pth.tar", "--path", pictures, "--output", "table").returncode == 0
    expected = {row["file"]: row for row in pq.read_table(tmp_path / "table").to_pylist()}
    compare_with_spark_udf(spark, run_id, pictures, expected)
    compare_with_served(run_id, pictures, expected, tmp_path)


def write_pictures(directory: Path) -> Path:
    """Ten images of noise, of another size than the network's."""
    directory.mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 15), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"{number}.png")
    return directory


def compare_with_spark_udf(spark: SparkSession, run_id: str, pictures: Path, expected: dict[str, dict]) -> None:
    from mlflow import pyfunc  # takes seconds, which the other tests save

    function: Any = pyfunc.spark_udf(spark, f"runs:/{run_id}/model", env_manager="local")
    rows = [(file.name, file.read_bytes()) for file in sorted(pictures.iterdir())]
    frame = spark.createDataFrame(rows, "file string, image binary").repartition(3)
    found = frame.select("file", function("image").alias("of_udf")).collect()
    assert {row["file"]: row["of_udf"].asDict() for row in found} == {
        name: {column: approximate(row[column]) for column in COLUMNS} for name, row in expected.items()
    }


def compare_with_served(run_id: str, pictures: Path, expected: dict[str, dict], directory: Path) -> None:
    port = free_port()
    command = [
        "env", f"PATH={SCRIPTS}{os.pathsep}{os.environ['PATH']}", sys.executable, "-m", "mlflow", "models", "serve",
        "-m", f"runs:/{run_id}/model", "--env-manager", "local", "--host", "127.0.0.1", "--port", port,
    ]  # fmt: skip
    content = base64.b64encode((pictures / "3.png").read_bytes()).decode()
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[content]]}}).encode()
    with running(command, directory / "serve", is_ready=lambda: answers(f"http://127.0.0.1:{port}/health")):
        request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            (found,) = json.load(answer)["predictions"]
    assert found == {column: approximate(expected["3.png"][column]) for column in COLUMNS}


def approximate(value: object) -> object:
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def write_tables(directory: Path) -> Path:
    """The result tables of an interrupted run of two epochs."""
    configuration = json.dumps({"epochs": 2, "arch": "resnet20", "resume": None})
    row = {
        "run": "base", "attempt": 1, "phase": "train", "status": INTERRUPTED, "started_at": 10.5, "updated_at": 20.0,
        "epoch": 2, "num_epochs": 2, "configuration": configuration, "message": "", "status_at": 20.0,
    }  # fmt: skip
    epochs = [
        {"run": "base", "split": "test", "epoch": epoch, "accuracy": accuracy, "emitted_at": 10.0 + epoch}
        for epoch, accuracy in ((1, 0.25), (2, 0.1 + 0.2))
    ]
    table = pa.Table.from_pylist(epochs, schema=TABLES["epochs"])
    write_run(directory, RunManifest("base", {"epochs": 1000}), {"epochs": {"0": table}}, {"runs": [row]})
    return directory


@pytest.mark.long
def test_a_sink_that_is_killed_at_any_request_and_started_again_logs_nothing_twice(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables_dir = write_tables(tmp_path)
    num_requests = 0
    while True:
        monkeypatch.setenv(EXPERIMENT, f"killed after {num_requests}")
        with mlflow_client(server) as (client, experiment):
            try:
                stopping: Any = StopsAfter(client, num_requests)
                MlflowSink(stopping, experiment, tables_dir, tmp_path).update(["base"])
                is_whole = True
            except KeyboardInterrupt:
                is_whole = False
            MlflowSink(client, experiment, tables_dir, tmp_path).update(["base"])
            (run,) = client.search_runs([experiment])
            assert run.info.status == "KILLED" and run.data.params == {"epochs": "2", "arch": "resnet20"}
            history = client.get_metric_history(run.info.run_id, "test/accuracy")
            assert [(value.step, value.value) for value in history] == [(1, 0.25), (2, 0.1 + 0.2)]
        if is_whole:
            break
        num_requests += 1
    assert num_requests > 5
