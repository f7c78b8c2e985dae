"""Jobs on a real standalone cluster: a master and two workers, started from the pip package, on loopback."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import LOOPBACK, quick_java, running_cluster
from tests.conftest import SCRIPTS, RunJob

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a master with two workers of one core each."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), num_workers=2) as started:
        yield started.url


def test_two_ranks_train_on_two_workers_with_the_code_from_a_zip(
    longtail: RunJob, spark_submit: RunJob, cluster: str, tmp_path: Path
):
    assert longtail("package", "--output", "code.zip").returncode == 0
    # A mark in the zip tells its code from the installed one.
    with zipfile.ZipFile(tmp_path / "code.zip", "a") as archive:
        archive.writestr("longtail/training/shipped.py", "")
    probe = tmp_path / "probe.py"
    probe.write_text(
        "from pyspark.sql import SparkSession\n"
        "def where(batches):\n"
        "    import longtail.conf.datasets as datasets, longtail.training.shipped as shipped, pyarrow as pa\n"
        "    datasets.dataset_facts('digits')\n"
        "    yield pa.RecordBatch.from_pydict({'file': [shipped.__file__]})\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "print([row.file for row in spark.range(1).mapInArrow(where, 'file string').collect()])\n"
    )
    submit = ["--master", cluster, "--py-files", "code.zip", "--conf", "spark.executor.memory=512m"]
    probed = subprocess.run(
        [SCRIPTS / "spark-submit", *submit, probe],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_SUBMIT_OPTS": quick_java(),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert probed.returncode == 0, probed.stderr
    assert "code.zip/longtail/training/shipped.py" in probed.stdout

    done = spark_submit("train", "--epochs", 3, "--world_size", 2, submit=tuple(submit), timeout=600)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["splits"]["train"]["totals"]["support"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]


def test_more_ranks_than_slots_are_refused_in_one_line(longtail: RunJob, cluster: str, tmp_path: Path):
    done = longtail("train", "--epochs", 1, "--world_size", 8, "--master", cluster)
    assert done.returncode == 2
    assert "8 tasks must run at once" in done.stderr and "has 2 slots" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing was prepared for it
