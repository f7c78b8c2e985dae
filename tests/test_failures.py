"""What happens to a training when a part of it dies or hangs: real processes, real signals.

Each run must end by itself with the weights of an undisturbed one, and every
epoch must count once.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from pyspark.sql import SparkSession

from longtail.streaming.tables.reading import read_result_table
from tests.cluster import MARK, kill_worker_of, marked_processes, running_cluster, wait_until_gone
from tests.conftest import SCRIPTS, RunJob, run_in_session

pytestmark = pytest.mark.usefixtures("with_digits")

TRAIN = ["train", "--epochs", "12", "--world_size", "2", "--threads", "1"]
"""In a session of its own, or in the tests': what is not to be disturbed, or goes on, needs no new process."""
LOCAL = ["--master", "local[2]"]
NUM_EPOCHS = 12

IMPATIENT = """
from longtail.spark_jobs.cluster import barrier
barrier.REPLACEMENT_WAIT_SECONDS = 20
from longtail.spark_jobs.cli import main
main()
"""
"""`longtail` that waits less long for an executor in the place of a lost one; here none comes."""


@pytest.fixture(scope="module")
def undisturbed(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, prepared_digits: Path
) -> dict[str, torch.Tensor]:
    """The weights of the same training without a disturbance."""
    directory = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared_digits, directory / "datasets")
    with contextlib.chdir(directory):
        done = run_in_session(spark, *TRAIN)
    assert done.returncode == 0, done.stderr
    return _weights(directory)


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = directory.glob("runs/*-w2-*/ckpt.pth.tar")
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def _disturbed_training(
    directory: Path, disturb: Callable[[int], None], *options: str, rank: int = 1, status: int = 0
) -> tuple[str, str]:
    """What a training says on standard output and error that has `disturb(pid of a rank)` done after some epochs.

    It must end with this status, and leave no process behind.
    """
    training = _start_training(directory, *LOCAL, *options)
    disturb(_pid_of_rank(directory, rank))
    stdout, stderr = training.communicate(timeout=600)
    assert training.returncode == status, stderr
    wait_until_gone(str(directory))
    return stdout, stderr


def _start_training(
    directory: Path, *options: str, program: Sequence[str | Path] = (SCRIPTS / "longtail",)
) -> "subprocess.Popen[str]":
    """A training, in a process group of its own, that has finished three epochs."""
    training = subprocess.Popen(
        [*program, *TRAIN, *options],
        cwd=directory,
        env={**os.environ, MARK: str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(training, lambda: list(directory.glob("runs/events/*-epoch00003.parquet")))
    return training


def _wait_for(training: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert training.poll() is None, "".join(training.communicate())
        assert time.monotonic() < deadline, "the training never got so far"
        time.sleep(0.05)


def _pid_of_rank(directory: Path, rank: int) -> int:
    (heartbeat,) = directory.glob(f"runs/*/heartbeats/rank{rank:04d}.json")
    return json.loads(heartbeat.read_text())["pid"]


def _assert_as_undisturbed(directory: Path, undisturbed: dict[str, torch.Tensor], job: RunJob) -> None:
    ours = _weights(directory)
    assert all(torch.equal(ours[name], undisturbed[name]) for name in undisturbed)
    assert job("monitor", "--once").returncode == 0
    epochs = read_result_table(directory / "runs/analytics", "epochs").to_pylist()
    assert sorted(row["epoch"] for row in epochs if row["split"] == "test") == list(range(1, NUM_EPOCHS + 1))
    assert list(directory.glob("runs/*/heartbeats/*")) == []


@pytest.mark.long
def test_a_training_resumes_automatically_when_a_rank_is_killed(
    job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    said, _ = _disturbed_training(tmp_path, lambda pid: os.kill(pid, signal.SIGKILL))
    assert "attempt 1 failed" in said and "attempt 2: resumes from" in said
    _assert_as_undisturbed(tmp_path, undisturbed, job)


@pytest.mark.long
def test_a_rank_that_hangs_is_named_and_the_training_goes_on(
    job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    stopped: list[int] = []

    def stop(pid: int) -> None:
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    # More than a start takes on a machine that has much else to do.
    said, _ = _disturbed_training(tmp_path, stop, "--rank_timeout", "60")
    assert "no heartbeat for 60 s: rank " in said
    assert f"process {stopped[0]} on" in said
    assert "attempt 2: resumes from" in said
    assert not Path(f"/proc/{stopped[0]}").exists()
    _assert_as_undisturbed(tmp_path, undisturbed, job)


@pytest.mark.long
def test_a_full_disk_is_one_line_and_the_training_goes_on_when_there_is_room(
    job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    """The kernel refuses rank 0 every file of more than 500 kB: a checkpoint has 2 MB, an epoch's events 8 kB."""

    def fill(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (500_000, 500_000))

    said, error = _disturbed_training(tmp_path, fill, rank=0, status=2)
    (checkpoint,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    assert error == (
        f"longtail train: error: cannot write {checkpoint}: File too large; "
        "free some space and run the command again (the old file is intact)\n"
    )
    assert "retries left" not in said
    assert torch.load(checkpoint, weights_only=True)["epoch"] >= 2
    assert list(checkpoint.parent.glob(".ckpt*")) == []
    assert "attempt 2: resumes from" in job(*TRAIN).stdout
    _assert_as_undisturbed(tmp_path, undisturbed, job)


@pytest.mark.long
def test_a_training_goes_on_when_the_events_directory_vanishes(tmp_path: Path, undisturbed: dict[str, torch.Tensor]):
    _, error = _disturbed_training(tmp_path, lambda pid: (tmp_path / "runs/events").rename(tmp_path / "taken"))
    assert error == ""
    ours = _weights(tmp_path)
    assert all(torch.equal(ours[name], undisturbed[name]) for name in undisturbed)
    epochs = {
        path.stem[-5:] for place in ("taken", "runs/events") for path in (tmp_path / place).glob("*-epoch?????.parquet")
    }
    assert len(epochs) == NUM_EPOCHS


def _sent_to_driver(directory: Path, sent: signal.Signals) -> tuple[int, str]:
    """Exit status and messages of a training whose driver gets a signal; no process of it may stay."""
    training = _start_training(directory, *LOCAL)
    assert len(marked_processes(str(directory))) >= 4  # driver, JVM, two ranks
    # A terminal sends Ctrl-C to the whole group; who kills a driver means it alone.
    os.killpg(training.pid, sent) if sent == signal.SIGINT else training.send_signal(sent)
    _, error = training.communicate(timeout=600)
    wait_until_gone(str(directory))
    return training.returncode, error


def _assert_status(directory: Path, status: str, job: RunJob) -> None:
    """As the monitor finds it, of a run that has not ended by itself."""
    assert job("monitor", "--once").returncode == 0
    (run,) = read_result_table(directory / "runs/analytics", "runs", now=time.time() + 60).to_pylist()
    assert run["status"] == status
    assert 3 <= run["epoch"] < NUM_EPOCHS


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_training_that_is_interrupted(job: RunJob, tmp_path: Path, sent: signal.Signals):
    assert _sent_to_driver(tmp_path, sent) == (130, "longtail train: interrupted\n")
    _assert_status(tmp_path, "interrupted", job)


@pytest.mark.long
def test_nothing_is_left_of_a_training_whose_driver_dies_and_it_ends_as_if_undisturbed(
    job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    assert _sent_to_driver(tmp_path, signal.SIGKILL) == (-9, "")
    _assert_status(tmp_path, "lost", job)
    assert list(tmp_path.glob("runs/*/result.json")) == []

    resumed = job(*TRAIN)
    assert resumed.returncode == 0, resumed.stderr
    assert "attempt 2: resumes from" in resumed.stdout
    first_epoch = re.search(rf"^epoch (\d+)/{NUM_EPOCHS}", resumed.stdout, re.MULTILINE)
    assert first_epoch is not None and int(first_epoch[1]) >= 3
    _assert_as_undisturbed(tmp_path, undisturbed, job)


@pytest.mark.long
def test_a_training_outlives_a_lost_worker_while_another_is_spare_and_says_so_when_none_is(
    longtail: RunJob, job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    """Three workers of one core and two ranks: one is spare. The second loss leaves one slot too few."""
    (tmp_path / "cluster").mkdir()
    with running_cluster(tmp_path / "cluster", num_workers=3, mark=str(tmp_path)) as cluster:
        options = ["--master", cluster.url]
        training = _start_training(tmp_path, *options, program=[sys.executable, "-c", IMPATIENT])
        kill_worker_of(_pid_of_rank(tmp_path, 1), cluster)
        _wait_for(training, lambda: len(list(tmp_path.glob("runs/events/*-attempt002-*"))) >= 3)
        kill_worker_of(_pid_of_rank(tmp_path, 1), cluster)
        said, error = training.communicate(timeout=600)
        assert training.returncode == 2, error
        assert "attempt 2: resumes from" in said
        assert error == (
            f"longtail train: error: 2 tasks must run at once, {cluster.url} has 1 slots: lower --world_size or give a "
            "larger master (for one machine: --master 'local[2]')\n"
        )
        still_there = cluster.reap()
        assert len(still_there) == 2
        wait_until_gone(str(tmp_path), but=still_there)

        cluster.add_workers(1)
        again = longtail(*TRAIN, *options, timeout=600)
        assert again.returncode == 0, again.stderr
        assert "resumes from" in again.stdout
    _assert_as_undisturbed(tmp_path, undisturbed, job)


@pytest.mark.long
def test_retries_are_bounded_and_the_failure_is_one_line(job: RunJob, tmp_path: Path):
    """A TensorBoard directory in which no file can be made, for a reason that is not the user's: all attempts fail."""
    first = job("train", "--epochs", 1)
    assert first.returncode == 0
    (run_dir,) = (path.parent for path in tmp_path.glob("runs/*/result.json"))
    (run_dir / "result.json").unlink()
    for log in (run_dir / "tensorboard").iterdir():
        log.unlink()
    (run_dir / "tensorboard").rmdir()
    (run_dir / "tensorboard").symlink_to("/proc")
    failed = job("train", "--epochs", 1, "--retries", 1)
    assert failed.returncode == 1
    assert failed.stdout.count("retries left: 1") == 1
    assert failed.stderr.count("\n") == 1 and failed.stderr.startswith("longtail train: failed: ")


def test_a_file_in_the_way_is_named_and_not_tried_again(job: RunJob, tmp_path: Path):
    assert job("train", "--epochs", 1).returncode == 0
    (run_dir,) = (path.parent for path in tmp_path.glob("runs/*/result.json"))
    (run_dir / "result.json").unlink()
    shutil.rmtree(run_dir / "tensorboard")
    (run_dir / "tensorboard").write_text("in the way")
    failed = job("train", "--epochs", 1)
    assert failed.returncode == 2
    assert "retries left" not in failed.stdout
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"longtail train: error: cannot use {run_dir / 'tensorboard'}")


@pytest.mark.long
def test_a_killed_java_process_is_one_line_and_the_training_goes_on(
    job: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    training = _start_training(tmp_path, *LOCAL)
    (jvm,) = (pid for pid in marked_processes(str(tmp_path)) if Path(f"/proc/{pid}/comm").read_text().strip() == "java")
    os.kill(jvm, signal.SIGKILL)
    said, error = training.communicate(timeout=600)
    assert training.returncode == 2
    assert error == (
        "longtail train: error: Spark's Java process ended (killed, or out of memory): run the command again\n"
    )
    assert "retries left" not in said
    wait_until_gone(str(tmp_path))
    assert "attempt 2: resumes from" in job(*TRAIN).stdout
    _assert_as_undisturbed(tmp_path, undisturbed, job)
