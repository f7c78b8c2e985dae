"""The barrier stage: N tasks that start together and form one torch process group.

    results = run_in_barrier_stage(spark, rank_main, world_size=2)

calls rank_main(rank) in N Python workers at once. A barrier stage fails as a
whole: when one rank raises, Spark ends the others.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import BarrierTaskContext
from pyspark.sql import SparkSession

from conf.errors import UserError
from spark_jobs.session import is_local

if TYPE_CHECKING:
    from torch.distributed import TCPStore

    from training.distributed import Rank

GROUP_TIMEOUT = timedelta(minutes=10)
SLOT_WAIT_SECONDS = 30
_LOOPBACK = "127.0.0.1"


def run_in_barrier_stage(
    spark: SparkSession,
    rank_main: Callable[["Rank"], dict[str, Any]],
    *,
    world_size: int,
    description: str,
    threads: int | None = None,
) -> list[dict[str, Any]]:
    """Run rank_main in every task of a barrier stage; what the ranks return (JSON-able), in rank order.

    threads: torch's threads in a rank; None: the cores of its task, of a local master its share of the machine's

    Raises UserError at once if the cluster has too few slots: Spark itself would wait for minutes.
    """
    check_slots(spark, world_size)
    master = spark.sparkContext.master
    if threads is None and is_local(master):
        threads = max(1, (os.cpu_count() or 1) // world_size)

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        with _process_group(BarrierTaskContext.get(), world_size, threads) as rank:
            result = rank_main(rank)
        yield pa.RecordBatch.from_pydict({"rank": [rank.rank], "result": [json.dumps(result)]})

    spark.sparkContext.setJobDescription(description)
    try:
        rows = (
            spark.range(0, world_size, 1, numPartitions=world_size)
            .mapInArrow(task, "rank long, result string", barrier=True)
            .collect()
        )
    finally:
        spark.sparkContext.setJobDescription(None)
    return [json.loads(row.result) for row in sorted(rows)]


def check_slots(spark: SparkSession, needed: int) -> None:
    """Raises UserError unless the cluster can run `needed` tasks at once; waits a little for executors to register."""
    deadline = time.monotonic() + (0 if is_local(spark.sparkContext.master) else SLOT_WAIT_SECONDS)
    while (slots := num_slots(spark)) < needed:
        if time.monotonic() >= deadline:
            raise UserError(
                f"{needed} tasks must run at once, {spark.sparkContext.master} has {slots} slots: "
                f"lower --world_size or give a larger master (for one machine: --master 'local[{needed}]')"
            )
        time.sleep(0.5)


def num_slots(spark: SparkSession) -> int:
    """How many tasks the cluster can run at the same time."""
    context = spark.sparkContext._jsc.sc()
    return context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())


@contextmanager
def _process_group(context: BarrierTaskContext, world_size: int, threads: int | None) -> Iterator["Rank"]:
    """This task as a rank: threads, device and process group set up, and taken down again."""
    # Imported here: only the tasks need torch, not the driver.
    import torch
    import torch.distributed as dist

    from training.distributed import Rank

    torch.set_num_threads(threads or context.cpus())
    rank = context.partitionId()
    device = _device(context)
    if world_size == 1:
        yield Rank(0, 1, device)
        return
    hosts = {info.address.rpartition(":")[0] for info in context.getTaskInfos()}
    with _store(context, rank, one_host=len(hosts) == 1) as store, _interface(one_host=len(hosts) == 1):
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT)
        # Not taken down on an error: Spark ends the worker then, and if the group went first, the peers' complaint
        # about their lost connection could reach the driver before the error itself.
        yield Rank(rank, world_size, device)
        # No rank leaves while another still waits for its last message.
        dist.barrier()
        dist.destroy_process_group()


def _device(context: BarrierTaskContext) -> Any:
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    granted = context.resources().get("gpu")
    index = int(granted.addresses[0]) if granted else context.partitionId() % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@contextmanager
def _store(context: BarrierTaskContext, rank: int, *, one_host: bool) -> Iterator["TCPStore"]:
    """The key-value store in which the ranks meet. Rank 0 serves it, on loopback if all ranks share its host."""
    from torch.distributed import TCPStore

    with socket.socket() as listener:
        if rank == 0:
            # Bound before the address is told, so the port cannot be taken in between.
            listener.bind((_LOOPBACK if one_host else _own_address(context), 0))
            listener.listen()
            host, port = listener.getsockname()
        # One allGather: each costs about a second.
        address = context.allGather(f"{host}:{port}" if rank == 0 else "")[0]
        host, _, port = address.rpartition(":")
        served = {"master_listen_fd": listener.detach()} if rank == 0 else {}
        yield TCPStore(host, int(port), is_master=rank == 0, wait_for_workers=False, timeout=GROUP_TIMEOUT, **served)


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
