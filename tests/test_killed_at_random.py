"""kill -9 at random moments, again and again: what comes out in the end is what an undisturbed process makes.

For the live tables see tests/test_exactly_once.py.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.data.contract import ID
from longtail.data.manifest import read_manifest
from longtail.training.command import main
from tests.conftest import SCRIPTS, run_in_session
from tests.tiny_set import same_tensors, unlabeled_ids, weights_in, write_pseudo_labels, write_tiny_set

pytestmark = pytest.mark.long

NUM_KILLS = int(os.environ.get("LONGTAIL_KILLS", "2"))
USUAL = ["-a", "resnet20", "--epochs", "16", "-b", "8", "--threads", "1"]
SEMI = ["--semi_method", "fixmatch", "--unlabeled_ratio", "1"]


PROCESSES = multiprocessing.get_context("forkserver")
"""Forked from a process that has loaded torch already, which takes longer than all epochs that are to be disturbed."""
PROCESSES.set_forkserver_preload([__name__])


def killed_at_random(
    run: Callable[[], object],
    directory: Path,
    *,
    num_kills: int,
    moment: Callable[[], Iterator[None]],
    finish: Callable[[], object] | None = None,
) -> int:
    """Start a process again and again until it ends by itself, killing it the first times; how often that was.

    run: what the process does, in the directory; it and its children are killed
    moment: called when the process was started; yields until it is to be killed
    finish: called after the kills in the place of a last process, which would take longer to start
    """
    kills = 0
    while True:
        if finish is not None and kills == num_kills:
            finish()
            return kills
        process = PROCESSES.Process(target=in_session_of_its_own, args=(run, directory))
        process.start()
        if kills < num_kills and lives_until(moment, process) and kill_session(process):
            kills += 1
            continue
        process.join(600)
        assert process.exitcode == 0, said_by_processes_in(directory).read_text()
        return kills


def lives_until(moment: Callable[[], Iterator[None]], process: BaseProcess) -> bool:
    while process.exitcode is None and not leads_session(process):
        time.sleep(0.01)
    for _ in moment():
        if process.exitcode is not None:
            return False
        time.sleep(0.01)
    return True


def leads_session(process: BaseProcess) -> bool:
    assert process.pid is not None
    try:
        return os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def kill_session(process: BaseProcess) -> bool:
    """Kill the process and its children; False if it has just ended by itself."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    process.join()
    return True


def in_session_of_its_own(run: Callable[[], object], directory: Path) -> None:
    os.setsid()
    os.chdir(directory)
    with said_by_processes_in(directory).open("w") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    run()


def said_by_processes_in(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.txt")


def after_seconds(draw: random.Random, shortest: float, longest: float) -> Iterator[None]:
    deadline = time.monotonic() + draw.uniform(shortest, longest)
    while time.monotonic() < deadline:
        yield


def after_epochs(draw: random.Random, directory: Path) -> Iterator[None]:
    """Within the fourth epoch after the start, or before; epochs take a tenth of a second."""
    events = directory / "runs" / "events"
    count = len(list(events.glob("[!.]*.*"))) + draw.randrange(4)
    while len(list(events.glob("[!.]*.*"))) < count:
        yield
    yield from after_seconds(draw, 0, 0.3)


def hidden(directory: Path) -> list[Path]:
    """What is left unfinished below a directory."""
    return [path for path in directory.rglob(".*") if ".longtail-" in path.name]


def _training(job: str, set_dir: Path, options: Sequence[str | Path]) -> Callable[[], None]:
    return partial(main, [job, "--set_dir", str(set_dir), *USUAL, *map(str, options)])


def _longtail(command: Sequence[str]) -> Callable[[], object]:
    program = str(SCRIPTS / "longtail")
    return partial(os.execv, program, [program, *command])


def _in_session(spark: SparkSession, command: Sequence[str], directory: Path) -> None:
    with contextlib.chdir(directory):
        done = run_in_session(spark, *command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("job", ["train", "train_semi with pseudo-labels", "train_semi with FixMatch", "pretrain_moco"])
def test_a_training_killed_again_and_again_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, job: str
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    ids = unlabeled_ids()
    table = write_pseudo_labels(tmp_path / "labels", ids, [n % 3 for n in range(len(ids))], [0.9] * len(ids))
    more = {"train_semi with pseudo-labels": ["--pseudo_labels", table], "train_semi with FixMatch": SEMI}
    training = _training(job.split()[0], set_dir, more.get(job, []))
    weights = []
    for name, num_kills in (("undisturbed", 0), ("disturbed", NUM_KILLS)):
        directory = tmp_path / name
        directory.mkdir()
        draw = random.Random(0)
        moment = partial(after_epochs, draw, directory)
        kills = killed_at_random(training, directory, num_kills=num_kills, moment=moment)
        (checkpoint,) = directory.glob("runs/*/ckpt.pth.tar")
        weights.append(weights_in(checkpoint))
        assert hidden(directory) == []
    assert kills >= NUM_KILLS // 2
    assert same_tensors(*weights)


PREPARE = ["prepare", "--imb_factor_unlabel", "1"]


@dataclass(frozen=True)
class Trained:
    """A directory with a prepared set and a trained network, and the seconds that preparing took."""

    directory: Path
    prepare_seconds: float


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("trained")
    seconds = run_undisturbed(PREPARE, directory)
    _in_session(spark, ["train", "--epochs", "1", "--imb_factor_unlabel", "1"], directory)
    return Trained(directory, seconds)


def run_undisturbed(command: Sequence[str], directory: Path) -> float:
    """Run `longtail` to its end; returns its seconds."""
    started = time.monotonic()
    subprocess.run([SCRIPTS / "longtail", *command], cwd=directory, check=True, capture_output=True, timeout=600)
    return time.monotonic() - started


def within(seconds: float) -> Callable[[], Iterator[None]]:
    """Moments in a process that takes about so long: some soon after its start, most in its work."""
    return partial(after_seconds, random.Random(1), seconds / 4, 0.6 * seconds)


def test_a_prepare_killed_again_and_again_ends_with_the_same_set(
    spark: SparkSession, tmp_path: Path, trained: Trained
) -> None:
    (expected,) = (trained.directory / "datasets" / "prepared").iterdir()
    moment, finish = within(trained.prepare_seconds), partial(_in_session, spark, PREPARE, tmp_path)
    kills = killed_at_random(_longtail(PREPARE), tmp_path, num_kills=NUM_KILLS, moment=moment, finish=finish)
    assert kills >= 1
    (prepared,) = (tmp_path / "datasets" / "prepared").iterdir()
    assert prepared.name == expected.name
    assert read_manifest(prepared) == read_manifest(expected)
    assert hidden(tmp_path) == []


def test_a_labelling_killed_again_and_again_ends_with_the_same_table(
    spark: SparkSession, tmp_path: Path, trained: Trained
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for directory in (undisturbed, disturbed):
        shutil.copytree(trained.directory, directory)
    (checkpoint,) = undisturbed.glob("runs/*/ckpt.pth.tar")
    command = ["gen_pseudolabels", "--resume", str(checkpoint.relative_to(undisturbed))]
    _in_session(spark, command, undisturbed)

    # It takes about as long as preparing: most of that is the start of the session.
    moment, finish = within(trained.prepare_seconds), partial(_in_session, spark, command, disturbed)
    run = _longtail(command)
    assert killed_at_random(run, disturbed, num_kills=NUM_KILLS, moment=moment, finish=finish) >= 1

    assert hidden(disturbed) == []
    expected, found = (_rows(_table_below(directory)) for directory in (undisturbed, disturbed))
    assert found.num_rows > 0 and found.equals(expected)


def _table_below(directory: Path) -> Path:
    (table,) = {file.parent for file in directory.glob("**/pseudo_labels.parquet/*.parquet")}
    return table


def _rows(table: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(table.glob("*.parquet"))]).sort_by(ID)
