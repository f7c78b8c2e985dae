"""Training on two hosts that share no file system (tests/two_hosts.py)."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtail.streaming.events.files import event_files_by_run
from tests.conftest import SCRIPTS
from tests.two_hosts import TwoHosts, environment_of_host, two_hosts, why_not

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(why_not()), reason=f"no two hosts here: {why_not()}")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prepared_digits: Path) -> Path:
    """Where the driver works, with the prepared digits; each worker has an empty file system there."""
    directory = tmp_path_factory.mktemp("driver")
    shutil.copytree(prepared_digits, directory / "datasets")
    return directory


@pytest.fixture(scope="module")
def cluster(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        for host in hosts.hosts:
            hosts.add_worker(host, private=[place])
        yield hosts


def longtail(cluster: TwoHosts, place: Path, *arguments: object) -> subprocess.Popen[str]:
    """`longtail ARGS` on the first host."""
    command = cluster.hosts[0].command([SCRIPTS / "longtail", *arguments, "--master", cluster.url])
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_of_host()
    )  # fmt: skip


def test_what_hosts_with_private_disks_cannot_do_is_refused_in_one_line(cluster: TwoHosts, place: Path) -> None:
    before = sorted(place.rglob("*"))
    refused = longtail(cluster, place, "prepare", "--imb_factor", 0.1)
    _, complaints = refused.communicate(timeout=300)
    assert refused.returncode == 2, complaints
    assert re.fullmatch(
        r"longtail prepare: error: --data_dir: host[01]-\w+ does not see \S+: let all hosts share that directory, name "
        r"a URL, or leave --master out\n",
        complaints,
    )
    assert sorted(place.rglob("*")) == before


def test_a_training_whose_worker_is_killed_goes_on_and_leaves_everything_on_the_driver_s(
    cluster: TwoHosts, place: Path
) -> None:
    name = ("--exp_str", "killed", "--world_size", 2, "--epochs", 12)
    training = longtail(cluster, place, "train", *name)
    deadline = time.monotonic() + 300
    while not (found := list(place.glob("runs/*-killed-*/ckpt.pth.tar"))):
        assert training.poll() is None and time.monotonic() < deadline, "no checkpoint came from the ranks"
        time.sleep(0.2)
    cluster.kill_worker(cluster.hosts[1])
    cluster.add_worker(cluster.hosts[1], private=[place])
    said, complaints = training.communicate(timeout=500)
    assert training.returncode == 0, (said, complaints)
    assert "the hosts of the ranks do not see" in said
    assert "attempt 1 failed" in said and f"attempt 2: resumes from {found[0]}" in said
    starts = [
        json.loads(file.read_text()) for file in (place / "runs/events").glob("*-killed-*-attempt*-started.jsonl")
    ]
    assert sorted(start["attempt"] for start in starts) == [1, 2]
    assert next(start["epoch"] for start in starts if start["attempt"] == 2) >= 1, "it went on from a checkpoint"
    result = json.loads((found[0].parent / "result.json").read_text())
    assert result["epoch"] == 12
    assert result["splits"]["train"]["totals"]["support"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
    (events,) = event_files_by_run(place / "runs" / "events").values()
    assert {f"epoch{epoch:05d}.parquet" for epoch in range(1, 13)} <= {file.name.split("-")[-1] for file in events}
