"""A function in every rank of a barrier stage, with the paths of its data."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.shipping import packed_pseudo_labels, set_rows, with_brought_set
from longtail.training.run_directory import RunPaths

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


def run_on_set(
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
