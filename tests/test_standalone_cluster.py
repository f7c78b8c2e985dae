"""Jobs on a real standalone cluster: a master and two workers, started from the pip package, on loopback."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import running_cluster
from tests.conftest import REPOSITORY, RunJob

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
    # A network that only the zip has tells its code from the installed one.
    with zipfile.ZipFile(tmp_path / "code.zip", "a") as archive:
        network = (REPOSITORY / "tests" / "written_network.py").read_text()
        archive.writestr("longtail/training/shipped.py", f"{network}\nassert '/code.zip/longtail/' in __file__\n")
    submit = ("--master", cluster, "--py-files", "code.zip", "--conf", "spark.executor.memory=512m")
    own = ("-a", "longtail.training.shipped:small")
    done = spark_submit("train", *own, "--epochs", 3, "--world_size", 2, submit=submit, timeout=600)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["splits"]["train"]["totals"]["support"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]


def test_more_ranks_than_slots_are_refused_in_one_line(longtail: RunJob, cluster: str, tmp_path: Path):
    done = longtail("train", "--epochs", 1, "--world_size", 8, "--master", cluster)
    assert done.returncode == 2
    assert "8 tasks must run at once" in done.stderr and "has 2 slots" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing was prepared for it
