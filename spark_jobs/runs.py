"""A run of a training job: its directory, its lock, its attempts, and its barrier stage.

RUNS_DIR/NAME/ holds options.json, attempts/, checkpoints (ckpt.pth.tar, with
validation data ckpt.best.pth.tar), tensorboard/ and, when done, result.json. The
name comes from the options, so the same command again goes on with the same
run: from its last checkpoint if it was stopped, or with its result if it is done.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from conf.errors import UserError
from conf.files import write_json_atomically
from conf.schema import PretrainRotOptions, RunOptions, TrainOptions
from data.contract import TEST
from data.loader import load_pseudo_labels
from spark_jobs.barrier import check_slots, run_in_barrier_stage
from spark_jobs.progress import EpochProgress
from streaming.tables import percent
from streaming.writer import EVENTS_DIRECTORY

if TYPE_CHECKING:
    from training.distributed import Rank

RESULT_FILE = "result.json"
CHECKPOINT_FILE = "ckpt.pth.tar"
_ATTEMPTS = "attempts"


@dataclass(frozen=True)
class FinishedRun:
    """A run that has all its epochs: its directory and the content of its result.json."""

    run_dir: Path
    result: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        return self.run_dir / CHECKPOINT_FILE


def run_dir_of(options: PretrainRotOptions | TrainOptions, pseudo_labels: Path | None = None) -> Path:
    """Where the run of these options lies. Raises UserError if a file that it starts from is not there."""
    inputs = {
        name: _content_hash(name, path)
        for name in ("resume", "pretrained_model")
        if (path := getattr(options, name, None)) is not None
    }
    if pseudo_labels is not None:
        inputs["pseudo_labels"] = _rows_hash(pseudo_labels)
    return options.runs_dir.absolute() / options.run_name(inputs)


def _content_hash(option_name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"--{option_name}: cannot read the checkpoint {path}: {error.strerror}") from None


def _rows_hash(pseudo_labels: Path) -> str:
    digest = hashlib.sha256()
    for column in load_pseudo_labels(pseudo_labels):
        digest.update(column.tobytes())
    return digest.hexdigest()


def train_run(
    spark: SparkSession,
    options: PretrainRotOptions | TrainOptions,
    *,
    set_dir: Path,
    pseudo_labels: Path | None = None,
    show_progress: bool = True,
) -> FinishedRun:
    """Train in a barrier stage, or go on with what is there.

    Raises UserError for bad input, too few slots, or a run that another process is working on.
    """
    run_dir = run_dir_of(options, pseudo_labels)
    check_slots(spark, options.world_size)
    with _exclusive(run_dir):
        if (run_dir / RESULT_FILE).exists():
            print(f"{run_dir.name} is done already; --exp_str NAME runs it again beside it")
            return FinishedRun(run_dir, json.loads((run_dir / RESULT_FILE).read_text()))
        attempt = _begin_attempt(run_dir, options)
        if attempt > 1 and (run_dir / CHECKPOINT_FILE).exists():
            print(f"attempt {attempt}: goes on from {run_dir / CHECKPOINT_FILE}")
        rank_main = partial(
            _train_rank,
            options=options,
            paths=_paths(options, set_dir, run_dir, pseudo_labels),
            attempt=attempt,
        )
        progress: AbstractContextManager[Any] = nullcontext()
        if show_progress:
            progress = EpochProgress(_events_dir(options), run=run_dir.name, attempt=attempt, num_epochs=options.epochs)
        with progress:
            results = run_in_barrier_stage(
                spark, rank_main, world_size=options.world_size, description=f"train {run_dir.name}"
            )
    return FinishedRun(run_dir, results[0])


def evaluate_run(
    spark: SparkSession, options: TrainOptions, *, set_dir: Path, pseudo_labels: Path | None = None
) -> dict[str, Any]:
    """Scores of the checkpoint --resume on the set's held-out splits."""
    assert options.resume is not None
    rank_main = partial(
        _evaluate_rank, options=options, paths=_paths(options, set_dir, options.resume.parent, pseudo_labels)
    )
    description = f"evaluate {options.resume}"
    return run_in_barrier_stage(spark, rank_main, world_size=options.world_size, description=description)[0]


def print_result(result: dict[str, Any]) -> None:
    """Per-class accuracy on the test set, and the scores in a line."""
    test = result["splits"][TEST]
    table = Table()
    for heading in ("class", "shots", "train", "test", "accuracy %"):
        table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
    columns = zip(
        result["class_names"], result["shot_groups"], result["class_counts"],
        test["totals"]["support"], test["class_accuracy"], strict=True,
    )  # fmt: skip
    for name, group, train_count, support, accuracy in columns:
        table.add_row(name, group, str(train_count), f"{support:.0f}", percent(accuracy))
    console = Console()
    console.print(f"{result['run']}, epoch {result['epoch']}, test set", soft_wrap=True)
    console.print(table)
    console.print(f"last epoch: {scores_line(test)}", soft_wrap=True)
    if best := result["best_on_validation"]:
        chosen = f"epoch {best['epoch']}, chosen on validation data"
        console.print(f"{chosen}: {scores_line(best['test_scores'])}", soft_wrap=True)


def scores_line(scores: dict[str, Any]) -> str:
    groups = ", ".join(f"{group} {percent(scores[f'{group}_shot_accuracy'])}" for group in ("many", "medium", "few"))
    means = [f"{name.replace('_', ' ')} {percent(scores[name])} %" for name in ("accuracy", "balanced_accuracy")]
    return ", ".join([*means, groups])


def _train_rank(rank: "Rank", *, options: RunOptions, paths: dict[str, Path | None], attempt: int) -> dict[str, Any]:
    from training.run import RunPaths, run_training  # torch is for the tasks, not for the driver

    return run_training(options, RunPaths(**paths), rank, attempt=attempt)


def _evaluate_rank(rank: "Rank", *, options: TrainOptions, paths: dict[str, Path | None]) -> dict[str, Any]:
    from training.run import RunPaths, run_evaluation

    return run_evaluation(options, RunPaths(**paths), rank)


def _events_dir(options: RunOptions) -> Path:
    return options.runs_dir.absolute() / EVENTS_DIRECTORY


def _paths(options: RunOptions, set_dir: Path, run_dir: Path, pseudo_labels: Path | None) -> dict[str, Path | None]:
    """The fields of training.run.RunPaths, absolute: executors have another working directory."""
    return {
        "set_dir": set_dir.absolute(),
        "run_dir": run_dir.absolute(),
        "events_dir": _events_dir(options),
        "pseudo_labels": pseudo_labels.absolute() if pseudo_labels else None,
    }


@contextmanager
def _exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock, which the system releases however this process ends.

    Of a run that stops on bad input before its first checkpoint, nothing is left behind.
    """
    is_new = not run_dir.exists()
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is working on {run_dir}: wait for it, or give another --exp_str"
            ) from None
        try:
            yield
        finally:
            if is_new and not (run_dir / CHECKPOINT_FILE).exists():
                shutil.rmtree(run_dir)


def _begin_attempt(run_dir: Path, options: RunOptions) -> int:
    """Number of this start of the run, from 1; recorded, so that a restart has another number however this one ends."""
    attempts = run_dir / _ATTEMPTS
    attempt = 1 + len(list(attempts.glob("*.json")))
    record = {"started_at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    write_json_atomically(run_dir / "options.json", options.model_dump(mode="json"))
    write_json_atomically(attempts / f"{attempt:03d}.json", record)
    return attempt
