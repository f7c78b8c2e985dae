"""Whether the hosts of a cluster see the driver's files."""

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from longtail.conf.base.errors import UserError
from longtail.conf.base.paths import nearest_existing
from longtail.data.storage import Location
from longtail.spark_jobs.cluster.barrier import check_slots, stage_profile
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.cluster.settings import is_local

_SCHEMA = pa.schema([pa.field("host", pa.string())])


def ranks_see(spark: SparkSession, paths: Sequence[Path], *, world_size: int) -> bool:
    """Whether as many tasks at once, where ranks would run, see all files of the paths as the driver does.

    Raises UserError if the cluster has too few slots for them, for which Spark itself would wait ten minutes.
    """
    check_slots(spark, world_size, profile=stage_profile(spark))
    return not _blind_hosts(spark, paths, num_tasks=world_size, as_ranks=True)


def check_seen(spark: SparkSession, path: Location, *, option: str) -> None:
    """Raise UserError if a host of a cluster does not see a local file or directory, which an option names."""
    if not isinstance(path, Path) or not _has_hosts(spark):
        return
    num_tasks = spark.sparkContext.defaultParallelism
    if blind := _blind_hosts(spark, [path], num_tasks=num_tasks, as_ranks=False):
        raise UserError(
            f"{option}: {blind[0]} does not see {path}: let all hosts share that directory, name a URL, or leave "
            f"--master out"
        )


def check_shared(spark: SparkSession, directory: Location, *, option: str) -> None:
    """As check_seen, of a directory that may not exist yet, by a file that is written and removed again."""
    if not isinstance(directory, Path) or not _has_hosts(spark):
        return
    sign = nearest_existing(directory) / f".{secrets.token_hex()}"
    sign.touch()
    try:
        check_seen(spark, sign, option=option)
    except UserError as error:
        raise UserError(str(error).replace(str(sign), str(directory))) from None
    finally:
        sign.unlink()


def _has_hosts(spark: SparkSession) -> bool:
    """Whether tasks may run elsewhere. Over Spark Connect, where that is is not known."""
    return not is_remote() and not is_local(spark.sparkContext.master)


def _blind_hosts(spark: SparkSession, paths: Sequence[Path], *, num_tasks: int, as_ranks: bool) -> list[str]:
    """Names of hosts that do not see all files."""
    files = {str(file): file.stat().st_size for path in paths for file in _files(path)}

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        seen = all(os.path.isfile(file) and os.path.getsize(file) == size for file, size in files.items())
        yield pa.RecordBatch.from_pydict({"host": [] if seen else [socket.gethostname()]}, _SCHEMA)

    tasks = spark.range(0, num_tasks, 1, numPartitions=num_tasks)
    profile = stage_profile(spark) if as_ranks else None
    with described(spark, "look for shared files"):
        found = tasks.mapInArrow(look, "host string", barrier=as_ranks, profile=profile).collect()
    return sorted({row.host for row in found})


def _files(path: Path) -> Iterator[Path]:
    yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
