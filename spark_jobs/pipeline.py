"""All of it: what unlabeled data adds to a long-tailed labelled set.

    longtail pipeline --dataset digits
    spark-submit spark_jobs/pipeline.py --dataset cifar10 --epochs 10

prepare -> stats -> [pretrain_rot, with --ssp] -> train -> gen_pseudolabels ->
train_semi -> compare, in one Spark session, while a streaming query over the
metric events shows per-class accuracy. The same command again goes on where
it was stopped.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich import get_console
from rich.table import Table

from longtail.conf.arguments import options_for, parse_options
from longtail.conf.base.files import write_json_atomically
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.semi import PipelineOptions, TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.barrier import check_slots
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.pipeline import PipelineScreen
from longtail.spark_jobs.display.tables import percent, signed_percent
from longtail.spark_jobs.gen_pseudolabels import labels_of_run
from longtail.spark_jobs.prepare import prepare
from longtail.spark_jobs.stats import stats
from longtail.spark_jobs.steps.training import FinishedRun, scores_line, train_run
from longtail.spark_jobs.train_semi import train_rounds
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.query import file_lines, start_live_query

COMPARISON_FILE = "comparison.json"


def main(argv: Sequence[str]) -> None:
    options = parse_options(PipelineOptions, argv, prog="longtail pipeline")
    slots = options.world_size + 1  # the live query's tasks run beside the ranks
    spark = spark_session("pipeline", options, slots=slots)
    check_slots(spark, slots)
    steps = ["prepare", "stats", *(["pretrain_rot"] if options.ssp else []), "train", "gen_pseudolabels", "train_semi"]
    # Tables of its own: a monitor of all runs may keep the others at the same time.
    options.runs_dir.mkdir(parents=True, exist_ok=True)
    tables_place = tempfile.TemporaryDirectory(dir=options.runs_dir, prefix=".live-")
    with tables_place as tables, PipelineScreen(steps, Path(tables)) as screen:
        query = start_live_query(
            spark,
            lambda session: file_lines(session, options.runs_dir / EVENTS_DIRECTORY),
            tables_dir=Path(tables),
            trigger="500 milliseconds",
            on_update=screen.update,
        )
        try:
            base, semi = run_steps(spark, options, screen)
            query.processAllAvailable()
        finally:
            query.stop()
    comparison = semi.run_dir / COMPARISON_FILE
    write_json_atomically(comparison, {"base": base.result, "semi": semi.result})
    print_comparison(base.result, semi.result)
    print(
        f"runs: {base.run_dir}, {semi.run_dir}\ncomparison: {comparison}\n"
        f"next: longtail monitor --runs_dir {options.runs_dir}, tensorboard --logdir {options.runs_dir}"
    )


def run_steps(spark: SparkSession, options: PipelineOptions, screen: PipelineScreen) -> tuple[FinishedRun, FinishedRun]:
    """Base and semi-supervised run, with all that comes before them."""
    with screen.step("prepare"):
        set_dir = prepare(spark, options)
    with screen.step("stats"):
        stats(spark, options, set_dir=set_dir)
    start = None
    if options.ssp:
        with screen.step("pretrain_rot"):
            pretraining = options_for(PretrainRotOptions, options)
            start = train_run(spark, pretraining, set_dir=set_dir, show_progress=False).checkpoint
    with screen.step("train"):
        training = options_for(TrainOptions, options, pretrained_model=start)
        base = train_run(spark, training, set_dir=set_dir, show_progress=False)
    with screen.step("gen_pseudolabels"):
        table = labels_of_run(spark, options, base, set_dir=set_dir)
    with screen.step("train_semi"):
        semi_training = options_for(
            TrainSemiOptions,
            options,
            pretrained_model=start,
            pseudo_labels=table,
            epochs=options.semi_epochs or options.epochs,
            batch_size=options.semi_batch_size or 2 * options.batch_size,
        )
        semi = train_rounds(spark, semi_training, set_dir=set_dir, pseudo_labels=table, show_progress=False)
    return base, semi


def print_comparison(base: dict[str, Any], semi: dict[str, Any]) -> None:
    """Per class, what pseudo-labels changed on the test set at the last epoch."""
    before, after = base["splits"][TEST], semi["splits"][TEST]
    table = Table()
    for heading in ("class", "shots", "labelled", "with pseudo-labels", "base %", "semi %", "change"):
        table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
    columns = zip(
        base["class_names"], base["shot_groups"], base["class_counts"], semi["class_counts"],
        before["class_accuracy"], after["class_accuracy"], strict=True,
    )  # fmt: skip
    for name, group, labelled, with_pseudo, old, new in columns:
        change = None if old is None or new is None else new - old
        table.add_row(name, group, str(labelled), str(with_pseudo), percent(old), percent(new), signed_percent(change))
    console = get_console()
    console.print("test accuracy, labels alone (base) and with pseudo-labels (semi)")
    console.print(table)
    console.print(f"base: {scores_line(before)}", soft_wrap=True)
    console.print(f"semi: {scores_line(after)}", soft_wrap=True)


if __name__ == "__main__":
    run_job("pipeline", main, sys.argv[1:])
