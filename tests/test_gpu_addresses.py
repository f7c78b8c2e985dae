"""GPUs by Spark's resource API, on a standalone cluster whose discovery script tells of GPUs that are not there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import LOOPBACK, Cluster, quick_java, running_cluster
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.long

PROBE = """
import json, sys
from pathlib import Path
from pyspark import TaskContext
from pyspark.sql import SparkSession
from longtail.spark_jobs.cluster import barrier
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.frames.predictions import inference_profile, torch_of_task

def addresses(context):
    return {name: found.addresses for name, found in context.resources().items()}

def rank_main(rank):
    from pyspark import BarrierTaskContext
    return {"rank": rank.rank, "device": str(rank.device), "resources": addresses(BarrierTaskContext.get())}

def ordinary(batches):
    import pyarrow as pa
    for _ in batches:
        pass
    yield pa.RecordBatch.from_pydict({"resources": [json.dumps(addresses(TaskContext.get()))]})

def inference(batches):
    import pyarrow as pa
    with torch_of_task(None) as device:
        for _ in batches:
            pass
        found = {"device": str(device), "resources": addresses(TaskContext.get())}
    yield pa.RecordBatch.from_pydict({"found": [json.dumps(found)]})

def refusal(**how):
    try:
        run_in_barrier_stage(spark, rank_main, description="refused", **how)
    except Exception as error:
        return user_message(error)

url, gpus, *settings = sys.argv[1:]
builder = SparkSession.builder.master(url).config("spark.ui.enabled", "false")
for setting in settings:
    builder = builder.config(*setting.split("="))
spark = builder.getOrCreate()
ranks = run_in_barrier_stage(spark, rank_main, world_size=2, description="probe", backend="gloo")
one = spark.range(0, 1, 1, numPartitions=1)
rest = [json.loads(row.resources) for row in one.mapInArrow(ordinary, "resources string").collect()]
labelled = spark.range(0, 2, 1, numPartitions=2).mapInArrow(inference, "found string", profile=inference_profile(spark))
labelled = [json.loads(row.found) for row in labelled.collect()]
by_device = refusal(world_size=2)
barrier.SLOT_WAIT_SECONDS = 2  # both executors are there
too_many = refusal(world_size=3)
Path(gpus).write_text("first")
mixed = refusal(world_size=2)
said = {"ranks": ranks, "ordinary": rest, "inference": labelled}
print(json.dumps({**said, "too_many": too_many, "by_device": by_device, "mixed": mixed}))
"""
WITH_GPU = ["spark.executor.resource.gpu.amount=1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of one core and one GPU, which is said to be number 5."""
    directory = tmp_path_factory.mktemp("gpus")
    script = directory / "discover.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["5"]}\'\n')
    script.chmod(0o755)
    gpus = {"spark_worker_resource_gpu_amount": "1", "spark_worker_resource_gpu_discoveryScript": str(script)}
    with running_cluster(directory, num_workers=2, **gpus) as started:
        yield started


@pytest.mark.parametrize("by_stage", [True, False], ids=["a profile of the stage", "spark.task.resource.gpu.amount"])
def test_each_rank_is_given_the_address_of_its_gpu(cluster: Cluster, tmp_path: Path, by_stage: bool) -> None:
    settings = [*WITH_GPU, *([] if by_stage else ["spark.task.resource.gpu.amount=1"])]
    said = probe(cluster, tmp_path, *settings, num_gpus=6, FAKE_UUIDS="host")
    assert said["ranks"] == [
        {"rank": rank, "device": "cuda:5", "resources": {"gpu": ["5"]}} for rank in (0, 1)
    ]  # fmt: skip
    # Only where every task gets a GPU does one that has no use for it.
    assert said["ordinary"] == [{} if by_stage else {"gpu": ["5"]}]
    assert said["inference"] == [{"device": "cuda:5", "resources": {"gpu": ["5"]}}] * 2
    assert "3 tasks must run at once" in said["too_many"] and "has 2 slots" in said["too_many"]
    # Both workers are of this machine, and its GPU is the same one.
    assert said["by_device"] == (
        "ranks 0 and 1 on 127.0.0.1 have the same GPU host-5: lower --world_size, or let ranks share a GPU with "
        "--backend gloo"
    )


def test_ranks_of_a_host_share_its_gpus_in_their_own_order_where_spark_grants_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    said = probe(cluster, tmp_path, num_gpus=1)
    assert [rank["device"] for rank in said["ranks"]] == ["cuda:0", "cuda:0"]
    assert said["inference"] == [{"device": "cpu", "resources": {}}] * 2
    assert said["by_device"] == (
        "2 ranks run on 127.0.0.1, which has 1 GPU: lower --world_size, or let ranks share a GPU with --backend gloo"
    )
    assert said["mixed"] == (
        "rank 0 on 127.0.0.1 has a GPU and rank 1 on 127.0.0.1 has none: use hosts of one kind, or hide the GPUs "
        "(CUDA_VISIBLE_DEVICES= in spark.executorEnv)"
    )


def probe(cluster: Cluster, tmp_path: Path, *settings: str, num_gpus: int, **environment: str) -> dict[str, Any]:
    """What PROBE says with these settings, and fake GPUs by the environment of the workers."""
    file, gpus = tmp_path / "probe.py", tmp_path / "gpus"
    file.write_text(PROBE)
    gpus.write_text(str(num_gpus))
    python_path = os.pathsep.join([str(REPOSITORY / "tests" / "workers" / "fake_gpus"), str(REPOSITORY / "src")])
    given = {**environment, "FAKE_GPUS": str(gpus), "PYTHONPATH": python_path}
    settings = ("spark.executor.memory=512m", *settings, *(f"spark.executorEnv.{key}={given[key]}" for key in given))
    done = subprocess.run(
        [sys.executable, file, cluster.url, gpus, *settings],
        env={
            **os.environ,
            "SPARK_LOCAL_IP": LOOPBACK,
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "SPARK_SUBMIT_OPTS": quick_java(),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
