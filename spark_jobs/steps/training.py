"""A training or an evaluation as a barrier stage, and its result in the terminal."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from rich import get_console
from rich.table import Table

from longtail.conf.options.base import JobOptions
from longtail.conf.options.data import DataOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import SHOT_GROUPS, TEST, TRAIN, VAL
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cli import failure_line, user_message
from longtail.spark_jobs.cluster.barrier import check_slots, run_in_barrier_stage, stage_profile
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.cluster.shipping import packed_pseudo_labels, set_rows, with_brought_set
from longtail.spark_jobs.cluster.watchdog import Watchdog
from longtail.spark_jobs.display.progress import EpochProgress
from longtail.spark_jobs.display.tables import percent
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
from longtail.training.run_events import failure_told

MISTAKES_SHOWN = 5
MAX_CLASSES_SHOWN = 100
"""A longer table is for programs to read, in result.json."""
DATA_OPTIONS = frozenset(DataOptions.model_fields) - frozenset(JobOptions.model_fields)
"""The options that name a data set."""

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


def options_of_checkpoint(given: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Of the checkpoint that --resume names, those of its training's options that a job takes over.

    given: what the user said. Nothing if the checkpoint does not say, or is of another data set than the given one.
    """
    if "resume" not in given:
        return {}
    from longtail.training.checkpoints import load_checkpoint

    card = load_checkpoint(Path(given["resume"])).model_card
    if card is None or ("dataset" in given and given["dataset"] != card.options["dataset"]):
        return {}
    return {name: value for name, value in card.options.items() if name in names and value is not None}


def training_session(job: str, options: RunOptions) -> SparkSession:
    """The session of a job that trains.

    Raises what spark_session does, and UserError if the cluster cannot run all ranks at once: before a set is prepared,
    which can take an hour.
    """
    spark = spark_session(job, options, slots=options.world_size)
    check_slots(spark, options.world_size, profile=stage_profile(spark))
    return spark


def train_run(
    spark: SparkSession,
    options: RunOptions,
    *,
    set_dir: Path,
    pseudo_labels: Path | None = None,
    show_progress: bool = True,
) -> FinishedRun:
    """Train in a barrier stage, or go on with what is there.

    Raises UserError for bad input, too few slots, or a run that another process is working on.
    """
    paths = run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels)
    check_slots(spark, options.world_size, profile=stage_profile(spark))
    with exclusive_run(paths.run_dir):
        if (finished := finished_run(paths.run_dir)) is not None:
            print(f"{paths.run_dir.name} is done already; --exp_str NAME runs it again beside it")
            return finished
        for retries_left in range(options.retries, -1, -1):
            attempt = begin_attempt(paths.run_dir, options)
            if attempt > 1 and (paths.run_dir / CHECKPOINT_FILE).exists():
                print(f"attempt {attempt}: goes on from {paths.run_dir / CHECKPOINT_FILE}")
            writer = EventWriter(paths.events_dir, run=paths.run_dir.name, attempt=attempt)
            try:
                # A rank that is killed tells nothing, and a rank other than the first only to the driver.
                with failure_told(writer, options, run=paths.run_dir.name, attempt=attempt, say=_said):
                    result = _attempt(spark, options, paths, attempt, show_progress=show_progress)
                return FinishedRun(paths.run_dir, result)
            except Exception as error:
                # Bad input stays bad; anything else may have been a lost worker. Spark itself never retries this stage.
                if user_message(error) is not None or not retries_left:
                    raise
                print(f"attempt {attempt} failed ({failure_line(error)}); retries left: {retries_left}")
    raise AssertionError("the last attempt returns or raises")


def _said(error: BaseException) -> str:
    return user_message(error) or failure_line(error)


def _attempt(
    spark: SparkSession, options: RunOptions, paths: RunPaths, attempt: int, *, show_progress: bool
) -> dict[str, Any]:
    """One start of the barrier stage, watched; rank 0's result."""
    rank_main = partial(_train_rank, options=options, attempt=attempt)
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
            return _in_barrier_stage(spark, rank_main, options, paths, description=f"train {paths.run_dir.name}")[0]
    finally:
        spark.sparkContext.removeJobTag(tag)


def evaluate_run(
    spark: SparkSession, options: TrainOptions, *, set_dir: Path, pseudo_labels: Path | None = None
) -> dict[str, Any]:
    """Scores of the checkpoint --resume on the set's held-out splits; says which files were written on the way."""
    paths = run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels)
    rank_main = partial(_evaluate_rank, options=options)
    result = _in_barrier_stage(spark, rank_main, options, paths, description=f"evaluate {options.resume}")[0]
    for name in ("features", "tsne"):
        if (file := getattr(options, name)) is not None:
            print(f"{name}: {file}")
    return result


def _in_barrier_stage(
    spark: SparkSession,
    rank_main: Callable[["Rank", RunPaths], dict[str, Any]],
    options: RunOptions,
    paths: RunPaths,
    *,
    description: str,
) -> list[dict[str, Any]]:
    """rank_main(rank, paths) in every rank; with --data_through partitions the paths are those of what was brought."""
    rows, in_rank = None, partial(rank_main, paths=paths)
    if options.data_through == "partitions":
        rows = set_rows(spark, paths.set_dir)
        in_rank = partial(
            with_brought_set,
            rank_main,
            paths=paths,
            manifest=read_manifest(paths.set_dir),
            pseudo_labels=packed_pseudo_labels(paths.pseudo_labels) if paths.pseudo_labels else None,
        )
    return run_in_barrier_stage(
        spark,
        in_rank,
        world_size=options.world_size,
        threads=options.threads,
        description=description,
        rows=rows,
        verbose=options.verbose,
    )


def print_result(result: dict[str, Any]) -> None:
    """Per-class accuracy, precision and F1 on the test set, and the scores in a few lines.

    Of a training that has nothing to evaluate, as it was while learning.
    """
    console = get_console()
    if not result["splits"]:
        # Stopped between its last epoch and its result: what it measured while learning is in the metric events.
        console.print(f"{result['run']}, epoch {result['epoch']}: has all its epochs", soft_wrap=True)
        return
    split = next(split for split in (TEST, VAL, TRAIN) if split in result["splits"])
    test = result["splits"][split]
    table = Table()
    for heading in ("class", "shots", "train", "measured", "accuracy %", "precision %", "F1 %"):
        table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
    columns = zip(
        result["class_names"], result["shot_groups"], result["class_counts"],
        test["totals"]["support"], test["class_accuracy"], test["class_precision"], test["class_f1"], strict=True,
    )  # fmt: skip
    for name, group, train_count, support, *scores in columns:
        table.add_row(name, group, str(train_count), f"{support:.0f}", *map(percent, scores))
    console.print(f"{result['run']}, epoch {result['epoch']}, {split} set", soft_wrap=True)
    if len(result["class_names"]) <= MAX_CLASSES_SHOWN:
        console.print(table)
    else:
        console.print(f"{len(result['class_names'])} classes: result.json has the scores of each", soft_wrap=True)
    console.print(f"last epoch: {scores_line(test)}", soft_wrap=True)
    if "confusion" not in test:
        return
    console.print(f"last epoch: {details_line(test)}", soft_wrap=True)
    if mistakes := mistakes_line(test["confusion"], result["class_names"]):
        console.print(mistakes, soft_wrap=True)
    for name, value in result["chosen_on_validation"].items():
        console.print(f"{name} {value:g}", soft_wrap=True)
    if best := result["best_on_validation"]:
        chosen = f"epoch {best['epoch']}, chosen on validation data"
        console.print(f"{chosen}: {scores_line(best['test_scores'])}", soft_wrap=True)


def scores_line(scores: dict[str, Any]) -> str:
    groups = ", ".join(f"{group} {percent(scores[f'{group}_shot_accuracy'])}" for group in SHOT_GROUPS)
    means = [f"{name.replace('_', ' ')} {percent(scores[name])} %" for name in ("accuracy", "balanced_accuracy")]
    return ", ".join([*means, groups])


def details_line(scores: dict[str, Any]) -> str:
    return (
        f"top-5 accuracy {percent(scores['top5_accuracy'])} %, macro F1 {percent(scores['macro_f1'])} %, "
        f"calibration error {percent(scores['expected_calibration_error'])} %"
    )


def mistakes_line(confusion: dict[str, list[int]], class_names: list[str]) -> str:
    """The most frequent mistakes; empty if there are none."""
    cells = zip(confusion["count"], confusion["target"], confusion["predicted"], strict=True)
    wrong = sorted(((-count, target, guess) for count, target, guess in cells if target != guess))[:MISTAKES_SHOWN]
    shown = [f"{class_names[target]} as {class_names[guess]} ({-count})" for count, target, guess in wrong]
    return f"most often mistaken: {', '.join(shown)}" if shown else ""


def _train_rank(rank: "Rank", paths: RunPaths, *, options: RunOptions, attempt: int) -> dict[str, Any]:
    from longtail.training.run import run_training  # torch is for the tasks, not for the driver

    return run_training(options, paths, rank, attempt=attempt)


def _evaluate_rank(rank: "Rank", paths: RunPaths, *, options: TrainOptions) -> dict[str, Any]:
    from longtail.training.run import run_evaluation

    return run_evaluation(options, paths, rank)
