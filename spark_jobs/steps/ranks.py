"""Runs a function in every rank of a barrier stage, with access to a prepared set and to the run's files."""

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import SparkSession

from longtail.conf.base.store_path import StorePath
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.cluster.shipping import packed_pseudo_labels, run_with_shipped_set, set_rows
from longtail.spark_jobs.cluster.visibility import ranks_see
from longtail.spark_jobs.steps.rank_files import RankMain, run_with_driver_files, served_files
from longtail.training.run_directory import RunPaths

if TYPE_CHECKING:
    from longtail.training.distributed import Rank


def run_on_set(
    spark: SparkSession, rank_main: RankMain, options: RunOptions, paths: RunPaths, *, description: str
) -> list[dict[str, Any]]:
    """Run rank_main(rank, paths, options) in every rank.

    With --data_through partitions, or if ranks of a cluster do not see the set, they get a copy of it through Spark.
    Every host reaches a run in a store by itself.
    """
    if is_local(spark.sparkContext.master) or isinstance(paths.run_dir, StorePath):

        def locally(rank: "Rank", local_paths: RunPaths) -> dict[str, Any]:
            return rank_main(rank, local_paths, options)

        return _run(spark, locally, options, paths, description=description)
    tag = f"files-{uuid.uuid4().hex}"
    spark.sparkContext.addJobTag(tag)
    try:
        with served_files(spark, options, paths, cancel=lambda: spark.sparkContext.cancelJobsWithTag(tag)) as driver:

            def on_cluster(rank: "Rank", local_paths: RunPaths) -> dict[str, Any]:
                return run_with_driver_files(rank_main, rank, local_paths, options, driver=driver)

            return _run(spark, on_cluster, options, paths, description=description)
    finally:
        spark.sparkContext.removeJobTag(tag)


def _run(
    spark: SparkSession,
    rank_main: Callable[["Rank", RunPaths], dict[str, Any]],
    options: RunOptions,
    paths: RunPaths,
    *,
    description: str,
) -> list[dict[str, Any]]:
    stage = partial(
        run_in_barrier_stage,
        spark,
        world_size=options.world_size,
        threads=options.threads,
        backend=options.backend,
        description=description,
        verbose=options.verbose,
    )
    if not _through_partitions(spark, options, paths):
        return stage(lambda rank: rank_main(rank, paths))
    manifest = read_manifest(paths.set_dir)
    packed = packed_pseudo_labels(paths.pseudo_labels) if paths.pseudo_labels else None

    def with_rows(rank: "Rank", rows: pa.Table) -> dict[str, Any]:
        return run_with_shipped_set(rank_main, rank, rows, paths=paths, manifest=manifest, pseudo_labels=packed)

    return stage(with_rows, rows=set_rows(spark, paths.set_dir))


def _through_partitions(spark: SparkSession, options: RunOptions, paths: RunPaths) -> bool:
    if options.data_through == "partitions" or is_local(spark.sparkContext.master):
        return options.data_through == "partitions"
    inputs = [path for path in (paths.set_dir, paths.pseudo_labels) if isinstance(path, Path)]
    if ranks_see(spark, inputs, world_size=options.world_size):
        return False
    print(f"the hosts of the ranks do not see {paths.set_dir}: Spark sends them its rows (--data_through partitions)")
    return True
