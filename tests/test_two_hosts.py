"""Training on two hosts that share no file system (tests/two_hosts.py)."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SCRIPTS
from tests.two_hosts import TwoHosts, two_hosts, why_not

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(why_not()), reason=f"no two hosts here: {why_not()}")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the driver works; each worker has an empty file system there."""
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(scope="module")
def cluster(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        for host in hosts.hosts:
            hosts.add_worker(host, private=[place])
        yield hosts


def longtail(cluster: TwoHosts, place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`longtail ARGS` on the first host."""
    return subprocess.run(
        cluster.hosts[0].command([SCRIPTS / "longtail", *arguments]),
        cwd=place, capture_output=True, text=True, timeout=300, env=os.environ,
    )  # fmt: skip


def test_a_training_on_hosts_with_private_disks_leaves_everything_on_the_driver_s(
    cluster: TwoHosts, place: Path
) -> None:
    prepared = longtail(cluster, place, "prepare")
    assert prepared.returncode == 0, prepared.stderr
    done = longtail(cluster, place, "train", "--epochs", 2, "--world_size", 2, "--master", cluster.url)
    assert done.returncode == 0, (done.stdout, done.stderr)
    (result,) = place.glob("runs/*/result.json")
    assert json.loads(result.read_text())["splits"]["train"]["totals"]["support"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
