"""Hostile option values: whatever is given to whichever option of a job is its value, or refused in one line.

LONGTAIL_OPTION_SECONDS=600 python -m pytest tests/test_option_values.py tries more of them.
"""

import datetime
import os
import random
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.arguments import parse_options, resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import is_plain
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.base import JobOptions
from longtail.conf.options.calibrate import CalibrateOptions
from longtail.conf.options.data import DataOptions
from longtail.conf.options.export import ExportOptions
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions, PredictOptions
from longtail.conf.options.live import DashboardOptions, MonitorOptions, RelayOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.prepare import PrepareOptions, StatsOptions
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.studies import ExperimentOptions, ReportOptions, TheoryOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.spark_jobs.package import PackageOptions

SECONDS = float(os.environ.get("LONGTAIL_OPTION_SECONDS", "4"))
STRIDE = int(os.environ.get("LONGTAIL_OPTION_STRIDE", "7"))
"""Every so many-th of the single values is tried, other ones for each option, and at least every fourth of a YAML
file's; with 1, all 72,500."""

JOBS: tuple[type[JobOptions], ...] = (
    PrepareOptions, StatsOptions, TrainOptions, TrainSemiOptions, TrainClassifierOptions, PipelineOptions,
    EvaluateOptions, CalibrateOptions, GenPseudolabelsOptions, PredictOptions, AdviseOptions,
    MonitorOptions, DashboardOptions, RelayOptions, ExportOptions, ExperimentOptions, ReportOptions, TheoryOptions,
    PackageOptions, *PRETRAININGS.values(),
)  # fmt: skip

NUMBERS = [
    "0", "-0", "1", "-1", "2", "7", "8", "1.5", "-1.5", "0.1", "1e-308", "5e-324", "1e308", "-1e308", "1e309", "nan",
    "-nan",
    "inf", "-inf", "Infinity", "NaN", "1e30", str(10**30), str(-(10**30)), str(2**31), str(2**63), str(2**63 - 1),
    str(-(2**63)), str(2**64), "9" * 5000, "1_000", "0x10", "0o7", "1e3", "٣", "1 ", " 1", "1,2", "0.5,0.5",
    "1" * 400 + ".5",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "None", "null", "true", "digits", "cifar10", "folder", "table", "a" * 150, "a" * 300, "a" * 5000,
    "ä" * 130,
    "../..", "/", ".", "..", "~", "a/b", "a\nb", "a\tb", "\x1b[31m", "[/b]", "{0}", "%s", "a\x00b", "\udcff",
    "\u202e", "-", "--",
    "=", "-1", "*", "?", "[", "resnet20", "os:system", "a.b:c", "a.b:", ":", "local[", "local[0]", "yarn",
    "spark://", "x.png",
    "http://user:secret@host/a?token=secret", "s3a://key:secret@bucket/x", "file:///", "1/", "2000-01-01", "exp", "CE",
    "/dev/null", "/dev/zero", "/proc/self/mem", "/etc/hostname", "/etc/hostname/x", "/" + "a/" * 3000,
    "a" * 256 + "/b",
]  # fmt: skip
YAML_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 10**30, -(10**30), 10**400, 1.5, float("nan"), float("inf"), 1e308, [], [1], [[]],
    ["a"], {},
    {"a": 1}, {1: {2: 3}}, b"bytes", datetime.date(2000, 1, 1), datetime.time(1), "", "a", "a\x00b", "a" * 5000,
    [float("nan")], [10**400], [None], set("a"), (1, 2), [0.5] * 5000,
]  # fmt: skip


def derived(options: JobOptions) -> None:
    """What is made of the options before anything is written."""
    if isinstance(options, DataOptions):
        assert options.set_parameters()["dataset"] == options.dataset
        assert all(path.is_absolute() for path in options.own_paths())
        assert options.class_sizes() is None or options.counts
        assert len(os.fsencode(options.set_name())) <= 200
    if isinstance(options, RunOptions) and hasattr(options, "phase"):
        assert len(os.fsencode(options.run_name({}))) <= 200
    options.model_dump_json()


class Tried:
    """Counts what became of the values; collects what is neither taken nor refused in one line."""

    def __init__(self) -> None:
        self.taken, self.refused = 0, 0
        self.failures: dict[str, str] = {}

    def line(self, kind: type[JobOptions], argv: list[str]) -> None:
        self._one(kind, argv, lambda: parse_options(kind, argv, prog="longtail job"))

    def values(self, kind: type[JobOptions], values: dict[str, Any]) -> None:
        self._one(kind, values, lambda: resolve_options(kind, values))

    def _one(self, kind: type[JobOptions], given: object, make: Any) -> None:
        try:
            derived(make())
            self.taken += 1
        except UserError as error:
            self.refused += 1
            if len(str(error)) > 4000 or not is_plain(str(error)):
                self._failed(kind, given, f"a message of {len(str(error))} characters, or with control characters")
        except SystemExit:
            self.taken += 1  # --help
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self._failed(kind, given, f"{type(error).__name__}: {str(error)[:200]}")

    def _failed(self, kind: type[JobOptions], given: object, what: str) -> None:
        # One of each kind of failure, whatever the value.
        self.failures.setdefault(re.sub(r"'.*'|[0-9]+", "N", what), f"{kind.__name__} {given!r:.300}")

    @property
    def total(self) -> int:
        return self.taken + self.refused + len(self.failures)


def required(kind: type[JobOptions], file: Path) -> list[str]:
    """Arguments without which the job's other options are not looked at."""
    needs = [name for name, field in kind.model_fields.items() if field.is_required()]
    extra = ["--imb_factor_unlabel", "1"] if kind is TrainSemiOptions else []
    flags = [part for name in needs for part in (f"--{name}", str(file)) if not _positional(kind, name)]
    return [*[str(file) for name in needs if _positional(kind, name)], *flags, *extra]


def _positional(kind: type[JobOptions], name: str) -> bool:
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return bool(extra["positional"])


def single_values(file: Path) -> Iterator[tuple[type[JobOptions], list[str]]]:
    """Every hostile value of every option of every job."""
    for kind in JOBS:
        base = required(kind, file)
        for name in kind.model_fields:
            for value in (*NUMBERS, *TEXTS):
                yield kind, [*base, f"--{name}={value}"] if not _positional(kind, name) else [value]


def single_yaml_values(file: Path) -> Iterator[tuple[type[JobOptions], dict[str, Any]]]:
    """Every hostile value of a YAML file, for every option of every job."""
    for kind in JOBS:
        needs = {name: str(file) for name, field in kind.model_fields.items() if field.is_required()}
        for name in kind.model_fields:
            for value in YAML_VALUES:
                yield kind, {**needs, name: value}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x: 1\n")
    return tmp_path / "file"


@pytest.mark.long
def test_hostile_values_of_every_option_are_taken_or_refused_in_one_line(file: Path) -> None:
    tried = Tried()
    for kind, argv in islice(single_values(file), 0, None, STRIDE):
        tried.line(kind, argv)
    print(f"{tried.total} values: {tried.taken} taken, {tried.refused} refused")
    assert not tried.failures, "\n".join(f"{what} <- {given}" for what, given in tried.failures.items())


@pytest.mark.long
def test_hostile_values_of_a_yaml_file_are_taken_or_refused_in_one_line(file: Path) -> None:
    tried = Tried()
    for kind, values in islice(single_yaml_values(file), 0, None, min(STRIDE, 4)):
        tried.values(kind, values)
    print(f"{tried.total} values: {tried.taken} taken, {tried.refused} refused")
    assert not tried.failures, "\n".join(f"{what} <- {given}" for what, given in tried.failures.items())


def test_hostile_values_together_are_taken_or_refused_in_one_line(file: Path) -> None:
    tried, draw, end = Tried(), random.Random(0), time.monotonic() + SECONDS
    while time.monotonic() < end:
        kind = draw.choice(JOBS)
        named = [name for name in kind.model_fields if not _positional(kind, name)]
        names = draw.sample(named, min(len(named), draw.choice([1, 1, 3])))
        if draw.random() < 0.5:
            given = [f"--{name}={draw.choice(NUMBERS + TEXTS)}" for name in names]
            tried.line(kind, [*required(kind, file), *given])
        else:
            tried.values(kind, {name: draw.choice([*YAML_VALUES, *NUMBERS]) for name in names})
    print(f"{tried.total} command lines: {tried.taken} taken, {tried.refused} refused")
    assert not tried.failures, "\n".join(f"{what} <- {given}" for what, given in tried.failures.items())
