"""Runs a function in every rank of a barrier stage, with access to a prepared set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.shipping import packed_pseudo_labels, run_with_shipped_set, set_rows
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
    """Run rank_main(rank, paths) in every rank; with --data_through partitions, on a copy of the set sent to them."""
    rows: DataFrame | None = None

    def in_rank(rank: "Rank") -> dict[str, Any]:
        return rank_main(rank, paths)

    run: Callable[..., dict[str, Any]] = in_rank
    if options.data_through == "partitions":
        assert isinstance(paths.set_dir, Path), "a job prepares its set in a directory"
        rows = set_rows(spark, paths.set_dir)
        run = partial(
            run_with_shipped_set,
            rank_main,
            paths=paths,
            manifest=read_manifest(paths.set_dir),
            pseudo_labels=packed_pseudo_labels(paths.pseudo_labels) if paths.pseudo_labels else None,
        )
    return run_in_barrier_stage(
        spark,
        run,
        world_size=options.world_size,
        threads=options.threads,
        backend=options.backend,
        description=description,
        rows=rows,
        verbose=options.verbose,
    )
