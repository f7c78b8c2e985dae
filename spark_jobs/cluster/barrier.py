"""The barrier stage: N tasks that start together and form one torch process group.

    results = run_in_barrier_stage(spark, rank_main, world_size=2)

calls rank_main(rank) in N Python workers at once. A barrier stage fails as a whole: when one rank raises, Spark ends
the others.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import BarrierTaskContext, SparkConf
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import Backend
from longtail.spark_jobs.cluster.devices import check_devices, device_of_rank, gpu_profile
from longtail.spark_jobs.cluster.executors import executors_of, no_executors
from longtail.spark_jobs.cluster.rendezvous import GROUP_TIMEOUT, hosts_of_ranks, interface_for, rendezvous
from longtail.spark_jobs.cluster.session import described, larger_master
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.cluster.torch_state import torch_as_found

if TYPE_CHECKING:
    import torch

    from longtail.training.distributed import Rank

SLOT_WAIT_SECONDS = 30
REPLACEMENT_WAIT_SECONDS = 180
"""After an executor that has worked was lost: its host, pod or container starts anew first."""
PEER_ERROR_SECONDS = 5.0
"""What a rank leaves a peer for its error to reach the driver, before it complains of the peer's lost connection."""


def run_in_barrier_stage(
    spark: SparkSession,
    rank_main: Callable[..., dict[str, Any]],
    *,
    world_size: int,
    description: str,
    threads: int | None = None,
    backend: Backend = "by_device",
    rows: DataFrame | None = None,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """Run rank_main(rank) in every task of a barrier stage; return the results (JSON-serialisable) in rank order.

    threads: torch's threads per rank; None: the cores of its task, or with a local master its share of the machine's
    backend: how the ranks communicate; gloo also lets ranks share a GPU
    rows: distributed over the ranks in parts of nearly equal size; rank_main(rank, rows) gets its part as a pa.Table
    verbose: each rank reports its start and its end on standard error, which on a cluster is the executor's log

    Raises UserError if the cluster has too few slots: at once with a local master, otherwise after a while in which
    executors may register (SLOT_WAIT_SECONDS, or REPLACEMENT_WAIT_SECONDS if one was lost).
    """
    profile = stage_profile(spark)
    check_slots(spark, world_size, profile=profile)
    master = spark.sparkContext.master
    if threads is None and is_local(master):
        threads = max(1, (os.cpu_count() or 1) // world_size)

    with_rows = rows is not None

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        local_rows = pa.Table.from_batches(batches)
        with _process_group(BarrierTaskContext.get(), world_size, threads, backend) as rank:
            log = partial(print, f"rank {rank.rank} of {world_size}:", file=sys.stderr, flush=True)
            if verbose:
                log(f"process {os.getpid()} on {socket.gethostname()}, device {rank.device}, begins")
            result = rank_main(rank, local_rows) if with_rows else rank_main(rank)
            if verbose:
                log("ends")
        yield pa.RecordBatch.from_pydict({"rank": [rank.rank], "result": [json.dumps(result, allow_nan=False)]})

    if rows is None:
        partitions = spark.range(0, world_size, 1, numPartitions=world_size)
    else:
        partitions = rows.repartition(world_size)
    with described(spark, description):
        results = partitions.mapInArrow(task, "rank long, result string", barrier=True, profile=profile).collect()
    return [json.loads(row.result) for row in sorted(results)]


def stage_profile(spark: SparkSession) -> ResourceProfile | None:
    """The resources of a rank beyond those of an ordinary task, as gpu_profile says."""
    return gpu_profile(spark.sparkContext.getConf())


def check_slots(spark: SparkSession, needed: int, *, profile: ResourceProfile | None = None) -> None:
    """Raise UserError unless `needed` tasks can run at once; on a cluster, wait for executors to register."""
    if not is_local(spark.sparkContext.master):
        check_allocation(spark.sparkContext.getConf())
    started = time.monotonic()
    while (slots := num_slots(spark, profile)) < needed:
        if time.monotonic() - started >= _slot_wait(spark):
            if slots == 0 and not any(executor.isActive() for executor in executors_of(spark.sparkContext)):
                raise UserError(no_executors(spark.sparkContext))
            raise UserError(
                f"{needed} tasks must run at once, {spark.sparkContext.master} has {slots} slots"
                f"{' with a GPU' if profile else ''}: lower --world_size or {larger_master(spark, needed)}"
            )
        time.sleep(0.5)


def _slot_wait(spark: SparkSession) -> int:
    """Seconds to wait for slots."""
    if is_local(spark.sparkContext.master):
        return 0
    # One that has run no task died as it started, and so will the next.
    is_lost = any(
        not executor.isActive() and executor.totalTasks() > 0 for executor in executors_of(spark.sparkContext)
    )
    return REPLACEMENT_WAIT_SECONDS if is_lost else SLOT_WAIT_SECONDS


def check_allocation(settings: SparkConf) -> None:
    """Raise UserError if executors come and go as they are needed: Spark runs no barrier stage on such."""
    if settings.get("spark.dynamicAllocation.enabled", "false").strip().lower() == "true":
        raise UserError(
            "spark.dynamicAllocation.enabled is true, with which Spark cannot start ranks together: set it to false "
            "(spark-submit --conf, or spark-defaults.conf) and spark.executor.instances to a number of executors"
        )


def num_slots(spark: SparkSession, profile: ResourceProfile | None = None) -> int:
    """The number of tasks (of a profile) that the cluster can run at the same time."""
    java_context: Any = spark.sparkContext._jsc  # objects of the JVM have no static type
    context = java_context.sc()
    profiles = context.resourceProfileManager()
    if profile is None:
        return context.maxNumConcurrentTasks(profiles.defaultResourceProfile())
    profiles.addResourceProfile(profile._java_resource_profile)  # adding it again has no effect
    return context.maxNumConcurrentTasks(profile._java_resource_profile)


def backend_of(device: "torch.device", choice: Backend = "by_device") -> str:
    """The communication backend for ranks on such a device."""
    return "nccl" if choice == "by_device" and device.type == "cuda" else "gloo"


@contextmanager
def _process_group(
    context: BarrierTaskContext, world_size: int, threads: int | None, backend: Backend
) -> Iterator["Rank"]:
    """Set up this task as a rank (threads, device, process group), and tear it down after the block."""
    rank, meets = context.partitionId(), rendezvous(context) if world_size > 1 else nullcontext()
    with meets as meeting, torch_as_found(threads=threads or context.cpus()):
        # Imported here: only the tasks need torch, not the driver.
        import torch.distributed as dist

        from longtail.training.distributed import Rank

        hosts = hosts_of_ranks(context)
        device = device_of_rank(context, hosts, shared=backend == "gloo")
        if meeting is None:
            yield Rank(0, 1, device)
            return
        with interface_for(meeting.own_address):
            store = meeting.store()
            check_devices(store, device, hosts[rank], rank, world_size, shared=backend == "gloo")
            dist.init_process_group(
                backend_of(device, backend), store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT
            )
            # On an error the group stays until Spark ends the worker, so that peers do not lose their connection first.
            with _after_errors_of_peers():
                yield Rank(rank, world_size, device)
            # No rank leaves while another waits for its last message.
            dist.barrier()
            dist.destroy_process_group()


@contextmanager
def _after_errors_of_peers() -> Iterator[None]:
    """Let an error that may be due to a peer's end come after the error with which that peer ended.

    The driver tells the first that reaches it. A worker ends as soon as it has written its error, which the JVM may
    read only later; Spark ends this rank meanwhile, unless there was no such error.
    """
    try:
        yield
    except RuntimeError:  # gloo's and NCCL's; those of torch.distributed are subclasses
        time.sleep(PEER_ERROR_SECONDS)
        raise
