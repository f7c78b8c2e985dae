"""The readers of foreign files, a second for each; and that the harness sees what it must."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from longtail.conf.base.errors import UserError
from tests.conftest import REPOSITORY
from tests.fuzz.readers import READERS
from tests.fuzz.runner import run


@pytest.mark.parametrize(
    ("seed", "seconds"), [(0, 10), pytest.param(1, 20, marks=pytest.mark.long)], ids=["ordinary", "longer"]
)
def test_no_reader_fails_on_damaged_and_invented_files(seed: int, seconds: int) -> None:
    """In a process of its own, without Spark's threads. More: python -m tests.fuzz --seconds 600"""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", str(seconds), "--seed", str(seed)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == len(READERS) and all(int(inputs) > 0 for _, inputs, *_ in rows), done.stdout


class Fails:
    """Reads even numbers, refuses those that end with 3, and fails otherwise in the way that it was made for."""

    def __init__(self, way: str) -> None:
        self.way = way

    def generate(self, random: Random) -> bytes:
        return bytes([random.randrange(10)])

    def read(self, content: bytes, directory: Path) -> None:
        if content[0] == 3:
            raise UserError("it is three")
        if content[0] % 2 == 0:
            return
        if self.way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.way == "memory":
            bytearray(2**31)
        elif self.way == "message":
            raise UserError("")
        raise KeyError("key")


@pytest.mark.parametrize(
    ("way", "named"),
    [
        ("exception", "KeyError: 'key' (test_fuzz.py:"),
        ("crash", "the interpreter ended with SIGSEGV"),
        ("memory", "it took all memory"),
        ("message", "a message of 0 characters"),
    ],
)
def test_the_harness_counts_inputs_and_names_failures(way: str, named: str) -> None:
    outcome = run(Fails(way), "fails", seed=0, seconds=60, max_inputs=30)
    first = [Random(f"fails:0:{number}").randrange(10) for number in range(30)]
    assert outcome.num_read == sum(value % 2 == 0 for value in first)
    assert outcome.num_refused == first.count(3)
    assert sorted(outcome.failures) == [n for n, value in enumerate(first) if value % 2 and value != 3]
    assert all(what.startswith(named) for what in outcome.failures.values()), outcome.failures
