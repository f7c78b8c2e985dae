"""Trains several runs at the same time in one task of a barrier stage."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.failures import failure_line, user_message, was_cancelled
from longtail.spark_jobs.steps.features import keep_features
from longtail.training.run_directory import RunPaths, begin_attempt, exclusive_run, finished_run, run_paths
from longtail.training.step_sizes import check_steps_of_run

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


@dataclass(frozen=True)
class PlannedTraining:
    """A run of one rank that is to be trained or resumed."""

    options: RunOptions
    set_dir: Location
    pseudo_labels: Location | None

    @property
    def paths(self) -> RunPaths:
        """The paths of the run."""
        return run_paths(self.options, set_dir=self.set_dir, pseudo_labels=self.pseudo_labels)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        return finished_run(self.paths.run_dir) is not None


def train_side_by_side(spark: SparkSession, trainings: Sequence[PlannedTraining]) -> None:
    """Train them as far as they succeed, with a local master. The runs tell their own failures as events.

    One that another process works on, or that is refused, is left out; and if the stage fails, nothing is finished.
    Raises nothing but an interruption: train_run then trains each by itself, and says what is wrong.
    """
    with ExitStack() as held:
        begun: list[tuple[RunOptions, RunPaths, int]] = []
        for training in trainings:
            with suppress(UserError):
                check_steps_of_run(training.options, read_manifest(training.set_dir))
                held.enter_context(exclusive_run(training.paths.run_dir))
                if not training.is_finished:
                    keep_features(spark, training.options, training.set_dir)
                    attempt = begin_attempt(training.paths, training.options)
                    begun.append((training.options, training.paths, attempt))
        if len(begun) < 2:
            return
        options = begun[0][0]
        try:
            # Without a watchdog: with a local master no worker is lost unnoticed.
            run_in_barrier_stage(
                spark,
                lambda rank: _train(rank, begun),
                world_size=1,
                threads=options.threads,
                description=f"train {len(begun)} runs side by side",
                verbose=options.verbose,
            )
        except (UserError, Py4JError, PySparkException) as error:
            if was_cancelled(error):
                raise
            reason = user_message(error) or failure_line(error)
            print(f"{len(begun)} trainings side by side failed ({reason}): each is trained by itself", flush=True)


def _train(rank: "Rank", begun: Sequence[tuple[RunOptions, RunPaths, int]]) -> dict[str, Any]:
    from longtail.training.side_by_side import Training, run_side_by_side  # only the tasks need torch

    run_side_by_side([Training(*one) for one in begun], rank)
    return {}
