"""The barrier stage: N tasks that start together and form one torch process group.

    results = run_in_barrier_stage(spark, rank_main, world_size=2)

calls rank_main(rank) in N Python workers at once. A barrier stage fails as a
whole: when one rank raises, Spark ends the others.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import BarrierTaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.session import described, is_local

if TYPE_CHECKING:
    import torch
    from torch.distributed import TCPStore

    from longtail.training.distributed import Rank

GROUP_TIMEOUT = timedelta(minutes=10)
SLOT_WAIT_SECONDS = 30
_LOOPBACK = "127.0.0.1"


def run_in_barrier_stage(
    spark: SparkSession,
    rank_main: Callable[..., dict[str, Any]],
    *,
    world_size: int,
    description: str,
    threads: int | None = None,
    rows: DataFrame | None = None,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """Run rank_main(rank) in every task of a barrier stage; what the ranks return (JSON-able), in rank order.

    threads: torch's threads in a rank; None: the cores of its task, of a local master its share of the machine's
    rows: what to bring to the ranks, a near-equal part to each: rank_main(rank, rows) gets its own as a pa.Table
    verbose: each rank says on its own standard error when it begins and ends: here if the master is local, else in the
        executor's log

    Raises UserError at once if the cluster has too few slots: Spark itself would wait for minutes.
    """
    profile = stage_profile(spark)
    check_slots(spark, world_size, profile=profile)
    master = spark.sparkContext.master
    if threads is None and is_local(master):
        threads = max(1, (os.cpu_count() or 1) // world_size)

    brings_rows = rows is not None

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = pa.Table.from_batches(batches)
        with _process_group(BarrierTaskContext.get(), world_size, threads) as rank:
            say = partial(print, f"rank {rank.rank} of {world_size}:", file=sys.stderr, flush=True)
            if verbose:
                say(f"process {os.getpid()} on {socket.gethostname()}, device {rank.device}, begins")
            result = rank_main(rank, mine) if brings_rows else rank_main(rank)
            if verbose:
                say("ends")
        yield pa.RecordBatch.from_pydict({"rank": [rank.rank], "result": [json.dumps(result)]})

    if rows is None:
        partitions = spark.range(0, world_size, 1, numPartitions=world_size)
    else:
        partitions = rows.repartition(world_size)
    with described(spark, description):
        results = partitions.mapInArrow(task, "rank long, result string", barrier=True, profile=profile).collect()
    return [json.loads(row.result) for row in sorted(results)]


def stage_profile(spark: SparkSession) -> ResourceProfile | None:
    """What a rank needs beyond an ordinary task: a GPU, if the executors own some; None if nothing.

    So only the ranks hold GPUs, and all cores serve the other stages. Where the cluster manager has no profiles by
    stage, spark.task.resource.gpu.amount gives every task its GPU, and nothing is left to ask for here.
    """
    configuration = spark.sparkContext.getConf()
    if not configuration.contains("spark.executor.resource.gpu.amount"):
        return None
    if configuration.contains("spark.task.resource.gpu.amount"):
        return None
    task = TaskResourceRequests().cpus(int(configuration.get("spark.task.cpus", "1"))).resource("gpu", 1)
    return ResourceProfileBuilder().require(task).build


def check_slots(spark: SparkSession, needed: int, *, profile: ResourceProfile | None = None) -> None:
    """Raises UserError unless the cluster can run `needed` tasks at once; waits a little for executors to register."""
    deadline = time.monotonic() + (0 if is_local(spark.sparkContext.master) else SLOT_WAIT_SECONDS)
    while (slots := num_slots(spark, profile)) < needed:
        if time.monotonic() >= deadline:
            raise UserError(
                f"{needed} tasks must run at once, {spark.sparkContext.master} has {slots} slots"
                f"{' with a GPU' if profile else ''}: "
                f"lower --world_size or give a larger master (for one machine: --master 'local[{needed}]')"
            )
        time.sleep(0.5)


def num_slots(spark: SparkSession, profile: ResourceProfile | None = None) -> int:
    """How many tasks (of a profile) the cluster can run at the same time."""
    context = spark.sparkContext._jsc.sc()
    profiles = context.resourceProfileManager()
    if profile is None:
        return context.maxNumConcurrentTasks(profiles.defaultResourceProfile())
    profiles.addResourceProfile(profile._java_resource_profile)  # once more does nothing
    return context.maxNumConcurrentTasks(profile._java_resource_profile)


def backend_of(device: "torch.device") -> str:
    """How ranks on such a device talk to each other."""
    return "nccl" if device.type == "cuda" else "gloo"


@contextmanager
def _process_group(context: BarrierTaskContext, world_size: int, threads: int | None) -> Iterator["Rank"]:
    """This task as a rank: threads, device and process group set up, and taken down again."""
    with _meeting(context, world_size) as meeting:
        # Imported here: only the tasks need torch, not the driver.
        import torch
        import torch.distributed as dist

        from longtail.training.distributed import Rank

        torch.set_num_threads(threads or context.cpus())
        rank = context.partitionId()
        device = _device(context)
        if meeting is None:
            yield Rank(0, 1, device)
            return
        with _interface(one_host=meeting.one_host):
            dist.init_process_group(
                backend_of(device), store=meeting.store(), rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT
            )
            # Not taken down on an error: Spark ends the worker then, and if the group went first, the peers' complaint
            # about their lost connection could reach the driver before the error itself.
            yield Rank(rank, world_size, device)
            # No rank leaves while another still waits for its last message.
            dist.barrier()
            dist.destroy_process_group()


def _device(context: BarrierTaskContext) -> "torch.device":
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    granted = context.resources().get("gpu")
    index = int(granted.addresses[0]) if granted else context.partitionId() % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@dataclass(frozen=True)
class _Meeting:
    """Where the ranks meet. addresses: told by all of them; the first is that of rank 0, which listens there."""

    one_host: bool
    addresses: "Future[list[str]]"
    listener: socket.socket | None

    def store(self) -> "TCPStore":
        """The key-value store of the group; rank 0 serves it."""
        from torch.distributed import TCPStore

        host, _, port = self.addresses.result()[0].rpartition(":")
        served = {} if self.listener is None else {"master_listen_fd": self.listener.detach()}
        return TCPStore(
            host,
            int(port),
            is_master=self.listener is not None,
            wait_for_workers=False,
            timeout=GROUP_TIMEOUT,
            **served,
        )


@contextmanager
def _meeting(context: BarrierTaskContext, world_size: int) -> Iterator[_Meeting | None]:
    """Begin to tell where to meet; None for a rank that is alone."""
    if world_size == 1:
        yield None
        return
    one_host = len({info.address.rpartition(":")[0] for info in context.getTaskInfos()}) == 1
    is_first = context.partitionId() == 0
    with socket.socket() as listener, ThreadPoolExecutor(1) as beside:
        if is_first:
            # Bound before the address is told, so the port cannot be taken in between; on loopback if all share a host.
            listener.bind((_LOOPBACK if one_host else _own_address(context), 0))
            listener.listen()
        mine = ":".join(map(str, listener.getsockname())) if is_first else ""
        # One allGather, which takes about a second: torch is imported meanwhile.
        addresses = beside.submit(context.allGather, mine)
        yield _Meeting(one_host, addresses, listener if is_first else None)


def _own_address(context: BarrierTaskContext) -> str:
    """The address under which Spark knows this task's host."""
    return socket.gethostbyname(context.getTaskInfos()[context.partitionId()].address.rpartition(":")[0])


@contextmanager
def _interface(*, one_host: bool) -> Iterator[None]:
    """Keep gloo's own sockets on loopback when no other host is concerned; Spark reuses workers, so put it back."""
    name = "GLOO_SOCKET_IFNAME"
    if not one_host or name in os.environ:
        yield
        return
    os.environ[name] = "lo"
    try:
        yield
    finally:
        del os.environ[name]
