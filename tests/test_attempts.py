"""Attempts of a run are counted however they end, so that no events of two attempts bear the same number."""

import os
import re
import shutil
from pathlib import Path

import pytest

from longtail.conf.options.training import TrainOptions
from longtail.streaming.events.writer import EventWriter, attempts_with_events
from longtail.training.run_directory import RunPaths, begin_attempt, exclusive_run
from longtail.training.run_events import report_failure, run_event
from longtail.training.run_log import RunLog, read_log
from tests.tiny_set import paths_of, tiny_options

OPTIONS = tiny_options(TrainOptions)


def fail(paths: RunPaths) -> int:
    """A command that starts, and ends before its first checkpoint; the number of its attempt."""
    run = paths.run_dir.name
    with pytest.raises(RuntimeError), exclusive_run(paths.run_dir):
        attempt = begin_attempt(paths, OPTIONS)
        writer = EventWriter(paths.events_dir, run=run, attempt=attempt)
        writer.write_run(run_event("started", OPTIONS, run=run, attempt=attempt, phase="train", epoch=0))
        with report_failure(writer, OPTIONS, run=run, attempt=attempt, describe=str):
            RunLog(paths.run_dir, attempt=attempt).add(f"attempt {attempt} failed")
            raise RuntimeError
    return attempt


def test_two_failures_before_the_first_checkpoint_are_two_attempts(tmp_path: Path) -> None:
    paths = paths_of(tmp_path / "set", tmp_path / "run")
    assert [fail(paths), fail(paths)] == [1, 2]
    assert re.fullmatch(".*attempt 1 failed\n.*attempt 2 failed\n", read_log(paths.run_dir))
    run = paths.run_dir.name
    assert sorted(os.listdir(paths.events_dir)) == [
        f"{run}-attempt{attempt:03d}-{state}.jsonl" for attempt in (1, 2) for state in ("failed", "started")
    ]
    shutil.rmtree(paths.run_dir)
    assert fail(paths) == 3


def test_a_command_that_never_started_leaves_nothing(tmp_path: Path) -> None:
    paths = paths_of(tmp_path / "set", tmp_path / "run")
    with pytest.raises(RuntimeError), exclusive_run(paths.run_dir):
        RunLog(paths.run_dir, attempt=begin_attempt(paths, OPTIONS)).add("the set is damaged")
        raise RuntimeError
    assert not paths.run_dir.exists()


def test_the_attempts_of_a_run_are_not_those_of_one_with_a_longer_name(tmp_path: Path) -> None:
    for name in ("a-attempt007-started", "a-attempt007-attempt009-started", "b-a-attempt008-failed", "a-attemptX"):
        (tmp_path / f"{name}.jsonl").touch()
    assert attempts_with_events(tmp_path, "a") == {7}
    assert attempts_with_events(tmp_path / "missing", "a") == set()
