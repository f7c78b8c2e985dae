"""Trains in a barrier stage, with retries."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from longtail.conf.base.locations import Location
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import check_slots, stage_profile
from longtail.spark_jobs.cluster.failures import failure_line, user_message, was_cancelled
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.cluster.watchdog import Watchdog
from longtail.spark_jobs.display.progress import EpochProgress
from longtail.spark_jobs.steps.features import keep_features
from longtail.spark_jobs.steps.ranks import run_on_set
from longtail.spark_jobs.tracking.training import check_tracking, tracked
from longtail.streaming.events.writer import EventWriter
from longtail.training.run_directory import (
    CHECKPOINT_FILE,
    FinishedRun,
    RunPaths,
    begin_attempt,
    exclusive_run,
    finished_run,
    run_paths,
)
from longtail.training.run_events import report_failure
from longtail.training.run_log import RunLog
from longtail.training.step_sizes import check_steps_of_run

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


def training_session(job: str, options: RunOptions) -> SparkSession:
    """The session of a training job.

    Raises UserError as spark_session does, and if --runs_dir cannot be written, --mlflow cannot be reached or the
    cluster cannot run all ranks at once: before the data set is prepared, which can take an hour.
    """
    check_can_be_written(options.runs_dir, option="--runs_dir")
    check_tracking(options)
    spark = spark_session(job, options, slots=options.world_size, networks=True)
    check_slots(spark, options.world_size, profile=stage_profile(spark))
    return spark


def train_run(
    spark: SparkSession,
    options: RunOptions,
    *,
    set_dir: Location,
    pseudo_labels: Location | None = None,
    show_progress: bool = True,
) -> FinishedRun:
    """Train in a barrier stage; an interrupted run is resumed, a finished one returned.

    Raises UserError for invalid input, too few slots, or a run that another process is working on.
    """
    paths = run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels)
    check_steps_of_run(options, read_manifest(set_dir))
    check_slots(spark, options.world_size, profile=stage_profile(spark))
    with exclusive_run(paths.run_dir), tracked(spark, options, paths):
        if (finished := finished_run(paths.run_dir)) is not None:
            print(f"{paths.run_dir.name} is done already; --exp_str NAME trains it again under another name")
            return finished
        keep_features(spark, options, paths.set_dir)
        for retries_left in range(options.retries, -1, -1):
            attempt = begin_attempt(paths, options)
            if attempt > 1 and (paths.run_dir / CHECKPOINT_FILE).exists():
                print(f"attempt {attempt}: resumes from {paths.run_dir / CHECKPOINT_FILE}")
            writer = EventWriter(paths.events_dir, run=paths.run_dir.name, attempt=attempt)
            try:
                # A killed rank reports nothing, and a rank other than the first only reports to the driver.
                with report_failure(
                    writer,
                    options,
                    run=paths.run_dir.name,
                    attempt=attempt,
                    describe=_describe,
                    is_interruption=was_cancelled,
                ):
                    result = _attempt(spark, options, paths, attempt, show_progress=show_progress)
                return FinishedRun(paths.run_dir, result)
            except Exception as error:
                is_interrupted = was_cancelled(error)
                line = "interrupted" if is_interrupted else f"attempt {attempt} failed ({_describe(error)})"
                # By now no rank writes it any more, and one that was killed could not say so.
                RunLog(paths.run_dir, attempt=attempt).add(line)
                # Invalid input stays invalid; the rest may be a lost worker. Spark does not retry a barrier stage.
                if user_message(error) is not None or is_interrupted or not retries_left:
                    raise
                print(f"{line}; retries left: {retries_left}")
    raise AssertionError("the last attempt returns or raises")


def _describe(error: BaseException) -> str:
    return user_message(error) or failure_line(error)


def _attempt(
    spark: SparkSession, options: RunOptions, paths: RunPaths, attempt: int, *, show_progress: bool
) -> dict[str, Any]:
    """Run the barrier stage once, under a watchdog; return rank 0's result."""
    rank_main = partial(_train_rank, attempt=attempt)
    tag = f"{paths.run_dir.name}-attempt{attempt}"
    watchdog = Watchdog(
        paths.heartbeats_dir,
        world_size=options.world_size,
        timeout_seconds=options.rank_timeout,
        cancel=lambda: spark.sparkContext.cancelJobsWithTag(tag),
    )
    progress: AbstractContextManager[Any] = nullcontext()
    if show_progress:
        progress = EpochProgress(paths.events_dir, run=paths.run_dir.name, attempt=attempt, num_epochs=options.epochs)
    spark.sparkContext.addJobTag(tag)
    try:
        with progress, watchdog:
            return run_on_set(spark, rank_main, options, paths, description=f"train {paths.run_dir.name}")[0]
    finally:
        spark.sparkContext.removeJobTag(tag)


def _train_rank(rank: "Rank", paths: RunPaths, options: RunOptions, *, attempt: int) -> dict[str, Any]:
    from longtail.training.run import run_training  # only the tasks need torch

    return run_training(options, paths, rank, attempt=attempt)
