"""Options of experiments, their reports, and the simulation of the theorems."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import field_validator

from longtail.conf.base.locations import Location
from longtail.conf.options.base import MOST_THREADS, JobOptions, SparkJobOptions, of_form, option
from longtail.conf.options.location_types import FileLocation

SIDE_BY_SIDE_ON_A_GPU = 8
"""Trainings of a small network, of which one leaves most of a GPU idle."""


_NAME = r"[A-Za-z0-9_.-]+"
"""Of an experiment, in its results: it is that of directories."""


class ExperimentOptions(SparkJobOptions):
    """experiment: run a grid of trials over several seeds and collect their results in a table."""

    examples = (
        ("digits_small --dry_run", "the steps of an experiment on the digits, and their cost"),
        ("digits_small", "run them"),
        ("digits_small --num_seeds 2", "run only the first two seeds of the file; the others may follow"),
    )

    experiment: str = option(
        ...,
        "name of a packaged experiment (conf/experiments/), or path of a YAML file (format: conf/experiment.py)",
        positional=True,
        group="Input",
    )
    trials: FileLocation | None = option(
        None, "trials.parquet of a report: its trials are done and need not run again on this machine", group="Input"
    )
    num_seeds: int | None = option(None, "run only the first N seeds of the file; default: all", group="Method", gt=0)
    dry_run: bool = option(
        False, "show the steps, their cost and which differences the seeds can show, without running them",
        group="Output",
    )  # fmt: skip
    slots: int | None = option(
        None, "tasks to run at the same time; default: all that the cluster has", group="Spark", gt=0
    )
    side_by_side: int | None = option(
        None,
        "trainings that run at the same time in one process, so that they share its GPU; with a local master; default: "
        f"{SIDE_BY_SIDE_ON_A_GPU} if it has a GPU, otherwise 1",
        group="Spark",
        gt=0,
    )
    threads: int | None = option(
        None,
        "CPU threads per rank; default: as in the experiment file, otherwise an equal share of the cores",
        group="Spark",
        gt=0,
        le=MOST_THREADS,
    )
    data_dir: Location = option(Path("datasets"), "directory of raw and prepared data sets", group="Output")
    runs_dir: Location = option(Path("runs"), "directory of checkpoints, logs and metric events", group="Output")
    results_dir: Location = option(Path("results"), "directory of the results table", group="Output")

    @field_validator("experiment")
    @classmethod
    def _name_fits_a_directory(cls, experiment: str) -> str:
        if not re.fullmatch(_NAME, Path(experiment).stem):
            raise ValueError("a file was expected whose name has only letters, digits, _, . and -: the results have it")
        return experiment

    @property
    def name(self) -> str:
        """The experiment's name in the results: its file's, without the suffix."""
        return Path(self.experiment).stem

    def step_options(self) -> dict[str, Any]:
        """Options for every step of the experiment."""
        names = ("master", "verbose", "threads", "data_dir", "runs_dir")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class ReportOptions(JobOptions):
    """report: report the results of an experiment as a page and as Markdown."""

    examples = (
        ("digits_small", "after `longtail experiment digits_small`: reports/ in results/"),
        ("digits_small --output_dir pages", "the same, in another directory"),
        ("digits_small --results_dir other", "of an experiment with --results_dir other"),
    )

    experiment: Annotated[str, of_form(_NAME, "a name without its directory, of letters, digits, _, . and -,")] = (
        option(..., "name of the experiment: its file's name without .yaml", positional=True, group="Input")
    )
    results_dir: Location = option(Path("results"), "directory of the results table", group="Input")
    trials: FileLocation | None = option(
        None, "trials.parquet of a report, to read in place of the results table", group="Input"
    )
    output_dir: Location | None = option(None, "output directory; default: reports/ in --results_dir", group="Output")


class TheoryOptions(SparkJobOptions):
    """theory: check the three theorems by Monte-Carlo simulation over a grid of parameters."""

    examples = (
        ("", "the packaged grid of parameters, in some minutes"),
        ("--repetitions 1000", "the same with fewer repetitions per point"),
    )

    grid: str = option(
        "theorems",
        "name of a packaged grid (conf/theory_grids/), or path of a YAML file (format: conf/theory_grid.py)",
        group="Input",
    )
    repetitions: int | None = option(
        None, "repetitions per point; default: as set by the grid's sweeps", group="Method", ge=2
    )
    block_repetitions: int = option(
        100_000,
        "repetitions per block: a block is one row of the Spark table, with random numbers of its own",
        group="Method",
        gt=0,
        le=10_000_000,
    )
    confidence: float = option(0.99, "confidence level of the intervals", group="Method", gt=0, lt=1)
    seed: int = option(0, "random seed", group="Method", ge=0, lt=2**63)
    output_dir: Location = option(Path("theory"), "directory of the results", group="Output")
