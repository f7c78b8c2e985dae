"""Spark Connect (spark_jobs/cluster/connect.py): what runs over a real server, and the line that says what does not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.contract import ID
from longtail.data.storage import table_files
from longtail.spark_jobs.cli import JOBS
from longtail.spark_jobs.cluster.connect import CONNECT_JOBS, connect_session
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.prepare import prepare
from longtail.training.run import run_training
from tests.cluster import free_port
from tests.conftest import REPOSITORY, RunJob
from tests.connect_process import commands
from tests.connect_server import connect_server
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of

WITHOUT_SPARK = {"report", "package", "runs", "export"}


def tables(directory: Path) -> dict[str, list[dict[str, object]]]:
    """What the commands wrote that is the same wherever it is computed, by name."""
    statistics, labels = next(directory.glob("datasets/statistics/*")), next(directory.glob("datasets/pseudo_labels/*"))
    rows = {
        "classes": pq.read_table(statistics / "class_counts.parquet").to_pylist(),
        "pseudo-labels": pq.read_table(table_files(labels / "pseudo_labels.parquet")).sort_by(ID).to_pylist(),
        "evaluated": pq.read_table(table_files(directory / "evaluation/predictions.parquet")).sort_by(ID).to_pylist(),
        "predicted": pq.read_table(table_files(directory / "predicted")).sort_by(ID).to_pylist(),
    }
    scores = json.loads((directory / "evaluation/scores.json").read_text())
    return {**rows, "confusion": [scores["splits"]["test"]["confusion"]]}


@pytest.mark.long
def test_the_jobs_on_dataframes_write_over_connect_what_they_write_in_a_session(
    spark: SparkSession, job: RunJob, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("grpc", reason="Spark Connect's packages are those of the extra [connect]")
    client = tmp_path_factory.mktemp("client")
    of_set = {"data_dir": tmp_path / "datasets", "imb_factor_unlabel": 0.5, "unlabel_size_factor": 3}
    set_dir = prepare(spark, resolve_options(PrepareOptions, of_set))
    shutil.copytree(tmp_path / "datasets", client / "datasets")
    paths = paths_of(set_dir, tmp_path / "runs" / "run")
    run_training(resolve_options(TrainOptions, {**of_set, "epochs": 1}), paths, ALONE, attempt=1)
    checkpoint, images = paths.run_dir / "ckpt.pth.tar", set_dir / "rows"
    for command in commands(str(checkpoint), str(images)):
        done = job(*command)
        assert done.returncode == 0, done.stderr

    with connect_server(tmp_path) as url:
        process = subprocess.run(
            [sys.executable, "-m", "tests.connect_process", url, checkpoint, images],
            cwd=client,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=600,
        )

    assert process.returncode == 0, process.stderr
    ended = json.loads(process.stdout.splitlines()[-1])
    assert {name: ended[name] for name in (*CONNECT_JOBS, "train")} == {**dict.fromkeys(CONNECT_JOBS, 0), "train": 2}
    assert "longtail train: error: train does not run over Spark Connect, which the Spark session asks for" in (
        process.stderr
    )
    assert tables(client) == tables(tmp_path)
    scores = json.loads((client / "evaluation/scores.json").read_text())["splits"]["test"]
    assert ended["accuracy of the API"] == scores["accuracy"]
    assert ended["predicted by the API"] == ended["seen by the user's session"] == 500
    assert ended["active"], "the user's session is the active one, with its settings"


@pytest.mark.parametrize("name", sorted(JOBS.keys() - WITHOUT_SPARK - set(CONNECT_JOBS)))
def test_every_other_job_refuses_before_anything_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost")

    with refused() as messages:
        spark_session(name, TrainOptions(dataset="digits"))

    assert messages == [
        f"{name} does not run over Spark Connect, which SPARK_REMOTE asks for; stats, evaluate, gen_pseudolabels, "
        f"predict do: use a Spark session with the driver in this process (--master)"
    ]


def test_a_server_that_is_not_there_is_one_line() -> None:
    url = f"sc://127.0.0.1:{free_port()}/;token=secret"

    with refused() as messages:
        connect_session(PrepareOptions(dataset="digits", remote=url))

    assert messages[0].startswith(f"no Spark Connect server at {url[5:].partition('/')[0]} (Connection refused)")


def test_a_remote_that_is_no_server_and_a_second_master_are_refused() -> None:
    with refused() as messages:
        resolve_options(PrepareOptions, {"remote": "spark://localhost:7077"})
    with refused() as others:
        connect_session(PrepareOptions(dataset="digits", remote="sc://localhost", master="local[2]"))

    assert "--remote spark://localhost:7077: input should be sc://HOST:PORT" in messages[0]
    assert others[0].startswith("--master is for a driver in this process")
