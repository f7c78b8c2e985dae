"""The steps of `pipeline`, one after the other, while a live query shows per-class accuracy."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from longtail.conf.arguments import options_for
from longtail.conf.base.files import scratch_directory
from longtail.conf.base.locations import Location
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.display.pipeline import PipelineScreen
from longtail.spark_jobs.steps.labelling import labels_of_run
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.self_training import train_rounds
from longtail.spark_jobs.steps.stats import stats
from longtail.spark_jobs.steps.training import train_run
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.query import LiveQuery, start_live_query
from longtail.training.run_directory import FinishedRun


def run_pipeline(spark: SparkSession, options: PipelineOptions) -> tuple[FinishedRun, FinishedRun]:
    """Run all steps under a live screen; the supervised (base) and the semi-supervised run."""
    steps = ["prepare", "stats", *(["pretrain_rot"] if options.ssp else []), "train", "gen_pseudolabels", "train_semi"]
    # Tables of its own: a monitor of all runs may be writing the others at the same time.
    with (
        scratch_directory(_local_directory(options.runs_dir), "live") as tables,
        PipelineScreen(steps, tables) as screen,
        _live_query(
            lambda: start_live_query(
                spark,
                options.runs_dir / EVENTS_DIRECTORY,
                tables_dir=tables,
                trigger="500 milliseconds",
                runs_dir=options.runs_dir,
                on_update=screen.update,
            )
        ) as query,
    ):
        runs = run_steps(spark, options, screen, before_training=query.result)
        query.result().processAllAvailable()
    return runs


@contextmanager
def _live_query(start: Callable[[], LiveQuery]) -> Iterator[Future[LiveQuery]]:
    """Start the query beside the block, since a preparation leaves time to its processes; it ends with the block."""
    started: Future[LiveQuery] = Future()

    def run() -> None:
        try:
            started.set_result(start())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the query gets it
            started.set_exception(error)

    InheritableThread(target=run, daemon=True).start()
    try:
        yield started
    finally:
        if started.exception() is None:
            started.result().stop()


def _local_directory(runs_dir: Location) -> Path:
    return runs_dir if isinstance(runs_dir, Path) else Path(tempfile.gettempdir())


def run_steps(
    spark: SparkSession,
    options: PipelineOptions,
    screen: PipelineScreen,
    *,
    before_training: Callable[[], object],
) -> tuple[FinishedRun, FinishedRun]:
    """Base and semi-supervised run, with all that comes before them."""
    with screen.step("prepare"):
        set_dir = prepare(spark, options)
    with screen.step("stats"):
        stats(spark, options, set_dir=set_dir)
    before_training()
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
