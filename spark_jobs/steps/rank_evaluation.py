"""Evaluation of a checkpoint in the ranks of a barrier stage."""

from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from longtail.conf.base.locations import Location
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.spark_jobs.steps.ranks import run_on_set
from longtail.training.run_directory import RunPaths, run_paths

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


def evaluate_in_ranks(spark: SparkSession, options: TrainOptions, *, set_dir: Location) -> dict[str, Any]:
    """Scores of the checkpoint options.resume on the held-out splits; prints the further files that were written."""
    paths = run_paths(options, set_dir=set_dir)
    result = run_on_set(spark, _evaluate_rank, options, paths, description=f"evaluate {options.resume}")[0]
    for name in ("features", "tsne"):
        if (file := getattr(options, name)) is not None:
            print(f"{name}: {file}")
    return result


def _evaluate_rank(rank: "Rank", paths: RunPaths, options: RunOptions) -> dict[str, Any]:
    from longtail.training.checkpoint_evaluation import run_evaluation

    assert isinstance(options, TrainOptions)
    return run_evaluation(options, paths, rank)
