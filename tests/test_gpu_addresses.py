"""GPUs by Spark's resource API, on a standalone cluster whose discovery script tells of GPUs that are not there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import LOOPBACK, Cluster, quick_java, running_cluster
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.long

PROBE = """
import json, sys
from pyspark import TaskContext
from pyspark.sql import SparkSession
from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster import barrier
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage

def addresses(context):
    return {name: found.addresses for name, found in context.resources().items()}

def rank_main(rank):
    from pyspark import BarrierTaskContext
    return {"rank": rank.rank, "resources": addresses(BarrierTaskContext.get())}

def ordinary(batches):
    import pyarrow as pa
    for _ in batches:
        pass
    yield pa.RecordBatch.from_pydict({"resources": [json.dumps(addresses(TaskContext.get()))]})

url, *settings = sys.argv[1:]
builder = SparkSession.builder.master(url).config("spark.ui.enabled", "false")
for setting in settings:
    builder = builder.config(*setting.split("="))
spark = builder.getOrCreate()
ranks = run_in_barrier_stage(spark, rank_main, world_size=2, description="probe")
one = spark.range(0, 1, 1, numPartitions=1)
rest = [json.loads(row.resources) for row in one.mapInArrow(ordinary, "resources string").collect()]
barrier.SLOT_WAIT_SECONDS = 2  # both executors are there
try:
    run_in_barrier_stage(spark, rank_main, world_size=3, description="too many")
except UserError as error:
    refusal = str(error)
print(json.dumps({"ranks": ranks, "ordinary": rest, "refusal": refusal}))
"""


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
    settings = ["spark.executor.resource.gpu.amount=1", "spark.executor.memory=512m"]
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    environment = {
        "SPARK_LOCAL_IP": LOOPBACK,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(REPOSITORY),
        "SPARK_SUBMIT_OPTS": quick_java(),
    }
    done = subprocess.run(
        [sys.executable, probe, cluster.url, *settings, *([] if by_stage else ["spark.task.resource.gpu.amount=1"])],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["ranks"] == [{"rank": rank, "resources": {"gpu": ["5"]}} for rank in (0, 1)]
    # Only where every task gets a GPU does one that has no use for it.
    assert said["ordinary"] == [{} if by_stage else {"gpu": ["5"]}]
    assert "3 tasks must run at once" in said["refusal"] and "has 2 slots" in said["refusal"]
