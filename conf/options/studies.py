"""Experiments, their reports, and the theorems."""

from pathlib import Path
from typing import Any

from pydantic import FilePath

from longtail.conf.options.base import JobOptions, option


class ExperimentOptions(JobOptions):
    """experiment: a grid of trials over seeds, with shared steps, and a table of their results."""

    examples = (
        ("conf/experiments/digits_small.yaml --dry_run", "the steps of an experiment on the digits, and their cost"),
        ("conf/experiments/digits_small.yaml", "run them"),
    )

    file: FilePath = option(..., "the experiment: a YAML file (conf/experiment.py)", positional=True, group="Input")
    dry_run: bool = option(False, "show the steps and what they cost, and run none", group="Method")
    slots: int | None = option(None, "tasks to run at once; by default as many as the cluster can", group="Spark", gt=0)
    threads: int | None = option(
        None, "CPU threads of a rank; by default the file's, or its share of the cores", group="Spark", gt=0
    )
    data_dir: Path = option(Path("datasets"), "directory of the raw and the prepared data sets", group="Output")
    runs_dir: Path = option(Path("runs"), "directory of checkpoints, logs and metric events", group="Output")
    results_dir: Path = option(Path("results"), "directory of the results table", group="Output")

    @property
    def name(self) -> str:
        return self.file.stem

    def step_options(self) -> dict[str, Any]:
        """Options that every step of the experiment gets."""
        names = ("master", "verbose", "threads", "data_dir", "runs_dir")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class ReportOptions(JobOptions):
    """report: what the trials of an experiment say, as a page and as Markdown."""

    examples = (("digits_small", "after `longtail experiment` ran it"),)

    experiment: str = option(
        ...,
        "name of the experiment: its file's, without .yaml",
        pattern=r"^[A-Za-z0-9_.-]+$",
        positional=True,
        group="Input",
    )
    results_dir: Path = option(Path("results"), "directory of the results table", group="Input")
    output_dir: Path | None = option(None, "where to write; by default reports/ in --results_dir", group="Output")


class TheoryOptions(JobOptions):
    """theory: the three theorems, checked by Monte-Carlo simulation over a grid of parameters."""

    examples = (
        ("", "the packaged grid of parameters, in some minutes"),
        ("--repetitions 1000", "the same with fewer repetitions per point"),
    )

    grid: FilePath = option(
        Path(__file__).parents[1] / "experiments" / "theory.yaml",
        "YAML file of the points to check (conf/theory_grid.py)",
        group="Input",
    )
    repetitions: int | None = option(
        None, "repetitions of every point; by default what its sweep in the grid says", group="Method", ge=2
    )
    block_repetitions: int = option(
        100_000, "repetitions of a block: a row of Spark's table, a seed of its own", group="Method", gt=0
    )
    confidence: float = option(0.99, "confidence of the intervals", group="Method", gt=0, lt=1)
    seed: int = option(
        0, "seed of all draws, with the point's parameters and the block", group="Method", ge=0, lt=2**63
    )
    output_dir: Path = option(Path("theory"), "directory of the results", group="Output")
