"""Run directories: name, lock, attempts and result of a run.

RUNS_DIR/NAME/ holds options.json, attempts/ with a log of each, checkpoints (ckpt.pth.tar and, with validation data,
ckpt.best.pth.tar), tensorboard/ and, when the run is finished, result.json. The name is derived from the options, so
repeating a command resumes the same run from its last checkpoint, or returns its result if it is finished.

This module does not import torch, so that a Spark driver can use it without.
"""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, remove_directory, write_json_atomically
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from longtail.streaming.events.heartbeats import HEARTBEATS_DIRECTORY
from longtail.streaming.events.writer import EVENTS_DIRECTORY, attempts_with_events
from longtail.training.result_file import RESULT_FILE, read_result
from longtail.training.run_log import ATTEMPTS_DIRECTORY, remove_old_logs

CHECKPOINT_FILE = "ckpt.pth.tar"
BEST_CHECKPOINT_FILE = "ckpt.best.pth.tar"
LEASE_FILE = "lease"
"""Of a run in a store, in the place of its lock (conf/base/leases.py)."""


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """Absolute paths that a run reads and writes, on a file system shared by the driver and all ranks.

    set_dir: prepared data set, a directory or a URL
    run_dir: checkpoints, logs and result
    events_dir: metric events of all runs
    pseudo_labels: table written by gen_pseudolabels, or published pickle file, for train_semi
    """

    set_dir: Location
    run_dir: Location
    events_dir: Location
    pseudo_labels: Location | None = None

    @property
    def heartbeats_dir(self) -> Location:
        """Directory of the ranks' heartbeat files."""
        return self.run_dir / HEARTBEATS_DIRECTORY


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its directory and the content of its result.json."""

    run_dir: Location
    result: dict[str, Any]

    @property
    def checkpoint(self) -> Location:
        """Checkpoint of the last epoch."""
        return self.run_dir / CHECKPOINT_FILE


def run_paths(options: RunOptions, *, set_dir: Location, pseudo_labels: Location | None = None) -> RunPaths:
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
        set_dir=set_dir.absolute(),
        run_dir=runs_dir / options.run_name(inputs),
        events_dir=runs_dir / EVENTS_DIRECTORY,
        pseudo_labels=pseudo_labels.absolute() if pseudo_labels else None,
    )


def finished_run(run_dir: Location) -> FinishedRun | None:
    """Return the run if it has a result.json, else None. Raises UserError if the file is damaged."""
    file = run_dir / RESULT_FILE
    return FinishedRun(run_dir, read_result(file)) if file.exists() else None


def _content_hash(option_name: str, path: Location) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        raise UserError(f"--{option_name}: cannot read the checkpoint {path}: {error.strerror or error}") from None


def _rows_hash(pseudo_labels: Location, options: TrainSemiOptions) -> str:
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
def exclusive_run(run_dir: Location) -> Iterator[None]:
    """Hold the run's lock; the operating system releases it however this process ends. In a store it is a lease.

    The directory of a new run is removed if it ends before it has started (for example on bad input). One that has is
    shown to those who look at runs, and its log says why it ended. Raises UserError if another process holds the lock.
    """
    is_new = not run_dir.exists()
    with _locked(run_dir):
        try:
            yield
        finally:
            if is_new and not (run_dir / CHECKPOINT_FILE).exists() and not _has_events(run_dir):
                remove_directory(run_dir)


def _has_events(run_dir: Location) -> bool:
    return bool(attempts_with_events(run_dir.parent / EVENTS_DIRECTORY, run_dir.name))


@contextmanager
def _locked(run_dir: Location) -> Iterator[None]:
    remedy = "wait for it, or choose another --exp_str"
    if isinstance(run_dir, StorePath):
        try:
            with lease(run_dir / LEASE_FILE, interrupts=True):
                yield
        except LeaseHeldError as error:
            raise UserError(f"another process is working on {run_dir} ({error}): {remedy}") from None
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is working on {run_dir}: {remedy}") from None
        yield


def begin_attempt(paths: RunPaths, options: RunOptions) -> int:
    """Record a new attempt and return its number, from 1; a restart gets the next number however this one ends.

    Attempts of a run whose directory is gone may have events, which count too.
    """
    run_dir, attempts = paths.run_dir, paths.run_dir / ATTEMPTS_DIRECTORY
    recorded = [int(file.stem) for file in attempts.glob("*.json") if file.stem.isdecimal()]
    attempt = 1 + max([*recorded, *attempts_with_events(paths.events_dir, run_dir.name)], default=0)
    record = {"started_at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    write_json_atomically(run_dir / "options.json", options.recorded())
    write_json_atomically(attempts / f"{attempt:03d}.json", record)
    remove_old_logs(run_dir)
    return attempt
