"""Run directories: name, lock, attempts and result of a run.

RUNS_DIR/NAME/ holds options.json, attempts/, checkpoints (ckpt.pth.tar and, with validation data, ckpt.best.pth.tar),
tensorboard/ and, when the run is finished, result.json. The name is derived from the options, so repeating a command
resumes the same run from its last checkpoint, or returns its result if it is finished.

This module does not import torch, so that a Spark driver can use it without.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from longtail.streaming.events.heartbeats import HEARTBEATS_DIRECTORY
from longtail.streaming.events.writer import EVENTS_DIRECTORY, attempts_with_events
from longtail.training.result_file import RESULT_FILE, read_result

CHECKPOINT_FILE = "ckpt.pth.tar"
BEST_CHECKPOINT_FILE = "ckpt.best.pth.tar"
ATTEMPTS_DIRECTORY = "attempts"


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """Absolute paths that a run reads and writes, on a file system shared by the driver and all ranks.

    set_dir: prepared data set, a directory or a URL
    run_dir: checkpoints, logs and result
    events_dir: metric events of all runs
    pseudo_labels: table written by gen_pseudolabels, or published pickle file, for train_semi
    """

    set_dir: Location
    run_dir: Path
    events_dir: Path
    pseudo_labels: Path | None = None

    @property
    def heartbeats_dir(self) -> Path:
        """Directory of the ranks' heartbeat files."""
        return self.run_dir / HEARTBEATS_DIRECTORY


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its directory and the content of its result.json."""

    run_dir: Path
    result: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """Checkpoint of the last epoch."""
        return self.run_dir / CHECKPOINT_FILE


def run_paths(options: RunOptions, *, set_dir: Location, pseudo_labels: Path | None = None) -> RunPaths:
    """Derive the paths of a run from its options. Raises UserError if an input file cannot be read."""
    inputs = {
        name: _content_hash(name, path)
        for name in ("resume", "pretrained_model")
        if (path := getattr(options, name, None)) is not None
    }
    if pseudo_labels is not None:
        assert isinstance(options, TrainSemiOptions)
        inputs["pseudo_labels"] = _rows_hash(pseudo_labels, options)
    # By its content: a set may be named by its directory alone, and the user's own files may change.
    inputs["set"] = read_manifest(set_dir).identity
    runs_dir = options.runs_dir.absolute()
    return RunPaths(
        set_dir=set_dir.absolute() if isinstance(set_dir, Path) else set_dir,
        run_dir=runs_dir / options.run_name(inputs),
        events_dir=runs_dir / EVENTS_DIRECTORY,
        pseudo_labels=pseudo_labels.absolute() if pseudo_labels else None,
    )


def finished_run(run_dir: Path) -> FinishedRun | None:
    """Return the run if it has a result.json, else None. Raises UserError if the file is damaged."""
    file = run_dir / RESULT_FILE
    return FinishedRun(run_dir, read_result(file)) if file.exists() else None


def _content_hash(option_name: str, path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        raise UserError(f"--{option_name}: cannot read the checkpoint {path}: {error.strerror}") from None


def _rows_hash(pseudo_labels: Path, options: TrainSemiOptions) -> str:
    if pseudo_labels.is_file():
        return content_hash(pseudo_labels)
    columns = [*load_pseudo_labels(pseudo_labels), np.array(load_round(pseudo_labels))]
    if options.pseudo_label_type == "soft":
        columns.append(load_probabilities(pseudo_labels))
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column.tobytes())
    return digest.hexdigest()


@contextmanager
def exclusive_run(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock; the operating system releases it however this process ends.

    The directory of a new run is removed if it ends before its first checkpoint (for example on bad input). Raises
    UserError if another process holds the lock.
    """
    is_new = not run_dir.exists()
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is working on {run_dir}: wait for it, or choose another --exp_str"
            ) from None
        try:
            yield
        finally:
            if is_new and not (run_dir / CHECKPOINT_FILE).exists():
                shutil.rmtree(run_dir)


def begin_attempt(paths: RunPaths, options: RunOptions) -> int:
    """Record a new attempt and return its number, from 1; a restart gets the next number however this one ends.

    Attempts that failed before the first checkpoint have no directory any more, but events, which count too.
    """
    run_dir, attempts = paths.run_dir, paths.run_dir / ATTEMPTS_DIRECTORY
    recorded = [int(file.stem) for file in attempts.glob("*.json") if file.stem.isdecimal()]
    attempt = 1 + max([*recorded, *attempts_with_events(paths.events_dir, run_dir.name)], default=0)
    record = {"started_at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    write_json_atomically(run_dir / "options.json", options.recorded())
    write_json_atomically(attempts / f"{attempt:03d}.json", record)
    return attempt
