"""The directory of a run: its name, its lock, its attempts, its result.

RUNS_DIR/NAME/ holds options.json, attempts/, checkpoints (ckpt.pth.tar, with
validation data ckpt.best.pth.tar), tensorboard/ and, when done, result.json. The
name comes from the options, so the same command again goes on with the same
run: from its last checkpoint if it was stopped, or with its result if it is done.

Nothing here needs torch: a Spark driver uses it as it is.
"""

import fcntl
import hashlib
import json
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
from longtail.conf.base.files import write_json_atomically
from longtail.conf.options.base import fingerprint
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from longtail.data.storage import PathOrUrl
from longtail.streaming.events.writer import EVENTS_DIRECTORY

CHECKPOINT_FILE = "ckpt.pth.tar"
BEST_CHECKPOINT_FILE = "ckpt.best.pth.tar"
RESULT_FILE = "result.json"
ATTEMPTS_DIRECTORY = "attempts"


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """Where a run reads and writes; absolute, on a file system that driver and ranks share.

    set_dir: the prepared data set, a directory or a URL; run_dir: checkpoints, logs and result
    events_dir: metric events of all runs
    pseudo_labels: table of gen_pseudolabels or published pickle, for train_semi
    """

    set_dir: PathOrUrl
    run_dir: Path
    events_dir: Path
    pseudo_labels: Path | None = None

    @property
    def heartbeats_dir(self) -> Path:
        """Signs of life of the ranks while they train."""
        return self.run_dir / "heartbeats"


@dataclass(frozen=True)
class FinishedRun:
    """A run that has all its epochs: its directory and the content of its result.json."""

    run_dir: Path
    result: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.run_dir / CHECKPOINT_FILE


def run_paths(options: RunOptions, *, set_dir: PathOrUrl, pseudo_labels: Path | None = None) -> RunPaths:
    """The run of these options. Raises UserError if a file that it starts from cannot be read."""
    inputs = {
        name: _content_hash(name, path)
        for name in ("resume", "pretrained_model")
        if (path := getattr(options, name, None)) is not None
    }
    if pseudo_labels is not None:
        assert isinstance(options, TrainSemiOptions)
        inputs["pseudo_labels"] = _rows_hash(pseudo_labels, options)
    if options.own_paths():
        # The options name the user's own files; what was in them when the set was prepared, its rows tell.
        inputs["set"] = fingerprint(read_manifest(set_dir).checksums)
    runs_dir = options.runs_dir.absolute()
    return RunPaths(
        set_dir=set_dir.absolute() if isinstance(set_dir, Path) else set_dir,
        run_dir=runs_dir / options.run_name(inputs),
        events_dir=runs_dir / EVENTS_DIRECTORY,
        pseudo_labels=pseudo_labels.absolute() if pseudo_labels else None,
    )


def finished_run(run_dir: Path) -> FinishedRun | None:
    """The run if it has its result, else None."""
    file = run_dir / RESULT_FILE
    return FinishedRun(run_dir, json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _content_hash(option_name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"--{option_name}: cannot read the checkpoint {path}: {error.strerror}") from None


def _rows_hash(pseudo_labels: Path, options: TrainSemiOptions) -> str:
    if pseudo_labels.is_file():
        return hashlib.sha256(pseudo_labels.read_bytes()).hexdigest()
    columns = [*load_pseudo_labels(pseudo_labels), np.array(load_round(pseudo_labels))]
    if options.pseudo_label_type == "soft":
        columns.append(load_probabilities(pseudo_labels))
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column.tobytes())
    return digest.hexdigest()


@contextmanager
def exclusive_run(run_dir: Path) -> Iterator[None]:
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


def begin_attempt(run_dir: Path, options: RunOptions) -> int:
    """Number of this start of the run, from 1; recorded, so that a restart has another number however this one ends."""
    attempts = run_dir / ATTEMPTS_DIRECTORY
    attempt = 1 + len(list(attempts.glob("*.json")))
    record = {"started_at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    write_json_atomically(run_dir / "options.json", options.model_dump(mode="json"))
    write_json_atomically(attempts / f"{attempt:03d}.json", record)
    return attempt
