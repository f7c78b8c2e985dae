"""What happens to a training when a part of it dies or hangs: real processes, real signals.

Each run must end by itself with the weights of an undisturbed one, and every
epoch must count once.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import SCRIPTS, RunJob

TRAIN = ["train", "--epochs", "60", "--world_size", "2", "--master", "local[2]"]
NUM_EPOCHS = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of the same training without a disturbance."""
    directory = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run([SCRIPTS / "longtail", *TRAIN], cwd=directory, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return _weights(directory)


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = directory.glob("runs/*-w2-*/ckpt.pth.tar")
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def _disturbed_training(directory: Path, disturb: Callable[[int], None], *options: str) -> str:
    """Standard output of a training whose rank 1 has `disturb(pid)` done to it after some epochs."""
    command = [SCRIPTS / "longtail", *TRAIN, *options]
    training = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(directory.glob("runs/events/*-epoch00003.jsonl")):
        assert training.poll() is None and time.monotonic() < deadline, "the training never reached epoch 3"
        time.sleep(0.05)
    (heartbeat,) = directory.glob("runs/*/heartbeats/rank0001.json")
    disturb(json.loads(heartbeat.read_text())["pid"])
    stdout, stderr = training.communicate(timeout=300)
    assert training.returncode == 0, stderr
    return stdout


def _assert_as_undisturbed(directory: Path, undisturbed: dict[str, torch.Tensor], longtail: RunJob) -> None:
    ours = _weights(directory)
    assert all(torch.equal(ours[name], undisturbed[name]) for name in undisturbed)
    assert longtail("monitor", "--once").returncode == 0
    epochs = pq.read_table(directory / "runs/analytics/epochs.parquet").to_pylist()
    assert sorted(row["epoch"] for row in epochs if row["split"] == "test") == list(range(1, NUM_EPOCHS + 1))
    assert list(directory.glob("runs/*/heartbeats/*")) == []


def test_a_training_goes_on_by_itself_when_a_rank_is_killed(
    longtail: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    said = _disturbed_training(tmp_path, lambda pid: os.kill(pid, signal.SIGKILL))
    assert "attempt 1 failed" in said and "attempt 2: goes on from" in said
    _assert_as_undisturbed(tmp_path, undisturbed, longtail)


@pytest.mark.long
def test_a_rank_that_hangs_is_named_and_the_training_goes_on(
    longtail: RunJob, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
):
    stopped: list[int] = []

    def stop(pid: int) -> None:
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    said = _disturbed_training(tmp_path, stop, "--rank_timeout", "20")
    assert "no sign of life for 20 s: rank " in said
    assert f"process {stopped[0]} on" in said
    assert "attempt 2: goes on from" in said
    assert not Path(f"/proc/{stopped[0]}").exists()
    _assert_as_undisturbed(tmp_path, undisturbed, longtail)


def test_retries_are_bounded_and_the_failure_is_one_line(longtail: RunJob, tmp_path: Path):
    """A file where the run's TensorBoard directory should be: every attempt fails alike."""
    first = longtail("train", "--epochs", 1)
    assert first.returncode == 0
    (run_dir,) = (path.parent for path in tmp_path.glob("runs/*/result.json"))
    (run_dir / "result.json").unlink()
    for log in (run_dir / "tensorboard").iterdir():
        log.unlink()
    (run_dir / "tensorboard").rmdir()
    (run_dir / "tensorboard").write_text("in the way")
    failed = longtail("train", "--epochs", 1, "--retries", 1)
    assert failed.returncode == 1
    assert failed.stdout.count("retries left: 1") == 1
    assert failed.stderr.count("\n") == 1 and failed.stderr.startswith("longtail train: failed: ")
