"""Whether the hosts of a cluster see the driver's files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from longtail.spark_jobs.cluster.barrier import stage_profile
from longtail.spark_jobs.cluster.session import described


def ranks_see(spark: SparkSession, paths: Sequence[Path], *, world_size: int) -> bool:
    """Whether as many tasks at once, where ranks would run, see all files of the paths as the driver does."""
    return not _blind_hosts(spark, paths, num_tasks=world_size, as_ranks=True)


def _blind_hosts(spark: SparkSession, paths: Sequence[Path], *, num_tasks: int, as_ranks: bool) -> list[str]:
    """Names of hosts that do not see all files."""
    files = {str(file): file.stat().st_size for path in paths for file in _files(path)}

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os
        import socket

        for _ in batches:
            pass
        seen = all(os.path.isfile(file) and os.path.getsize(file) == size for file, size in files.items())
        yield pa.RecordBatch.from_pydict({"host": [] if seen else [socket.gethostname()]}, _SCHEMA)

    tasks = spark.range(0, num_tasks, 1, numPartitions=num_tasks)
    with described(spark, "look for shared files"):
        profile = stage_profile(spark) if as_ranks else None
        found = tasks.mapInArrow(look, "host string", barrier=as_ranks, profile=profile).collect()
    return sorted({row.host for row in found})


_SCHEMA = pa.schema([pa.field("host", pa.string())])


def _files(path: Path) -> Iterator[Path]:
    yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
