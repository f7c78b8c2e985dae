"""The device of a task: the GPU that Spark grants it, a share of its host's GPUs if it is a rank, or the CPU."""

import json
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark import SparkConf, TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.settings import is_local

if TYPE_CHECKING:
    import torch
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_MIG = "MIG-"
"""Begins the name of a part of a GPU (multi-instance GPU)."""
MOST_TASKS_OF_A_GPU = 8
"""That share it: each has a CUDA context and a network of its own in the GPU's memory, often 1 GiB together."""


def gpu_profile(settings: SparkConf, *, shared: bool = False) -> ResourceProfile | None:
    """What the tasks of a stage need beyond an ordinary task: a GPU if the executors have any; None for nothing.

    Only such stages hold GPUs then, and every core serves the others. Cluster managers without profiles per stage give
    each task a GPU by spark.task.resource.gpu.amount; then there is nothing to request here.

    shared: as many tasks share a GPU as keep all cores of the executor busy, up to MOST_TASKS_OF_A_GPU
    """
    num_gpus = settings.get("spark.executor.resource.gpu.amount", None)
    if num_gpus is None or settings.contains("spark.task.resource.gpu.amount"):
        return None
    if is_local(settings.get("spark.master", None)):
        return None  # there are no executors
    cores = int(settings.get("spark.task.cpus", "1"))
    # Standalone executors without this setting take all cores of a worker, whose number nobody knows here.
    num_tasks = int(settings.get("spark.executor.cores", "1")) // cores
    sharing = min(max(1, -(-num_tasks // int(num_gpus))), MOST_TASKS_OF_A_GPU) if shared else 1
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cores).resource("gpu", 1 / sharing)).build


def device_of_rank(context: TaskContext, hosts: Sequence[str], *, shared: bool) -> "torch.device":
    """The device of a rank, which becomes PyTorch's current one.

    hosts: the host of each rank; the ranks of a host share its GPUs if Spark grants none
    shared: several ranks may have the same GPU

    Raises UserError as granted_device does, and if a host has fewer GPUs than ranks.
    """
    import torch  # only the tasks need it

    if (device := granted_device(context)) is not None:
        return device
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank, num_gpus = context.partitionId(), torch.cuda.device_count()
    host, place = hosts[rank], hosts[:rank].count(hosts[rank])
    if hosts.count(host) > num_gpus and not shared:
        raise UserError(
            f"{hosts.count(host)} ranks run on {host}, which has {num_gpus} GPU{'s' * (num_gpus != 1)}: lower "
            f"--world_size, or let ranks share a GPU with --backend gloo"
        )
    return _current(place % num_gpus)


def granted_device(context: TaskContext) -> "torch.device | None":
    """The GPU that Spark grants to a task, which becomes PyTorch's current one; None if it grants none.

    Raises UserError if PyTorch cannot use that GPU.
    """
    import torch

    if (granted := context.resources().get("gpu")) is None:
        return None
    address = granted.addresses[0]
    if address.startswith(_MIG) and not torch.cuda.is_initialized():
        # PyTorch numbers no parts of GPUs but those that are named here.
        os.environ[_VISIBLE] = address
    if not torch.cuda.is_available():
        raise UserError(
            f"Spark grants the GPU {address} on {socket.gethostname()}, where PyTorch finds none: install its CUDA "
            f"build and a driver for it, or leave spark.executor.resource.gpu.amount out"
        )
    names = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(torch.cuda.device_count())]
    return _current(index_of(address, os.environ.get(_VISIBLE), names))


def index_of(address: str, visible: str | None, names: Sequence[str]) -> int:
    """PyTorch's number of a GPU.

    address: what Spark's discovery script says: nvidia-smi's number, a GPU's UUID (GPU-...) or a part's (MIG-...)
    visible: CUDA_VISIBLE_DEVICES, whose entries PyTorch numbers from 0; None if it is not set: then all are numbered
    names: UUIDs of the GPUs that PyTorch sees

    Raises UserError if PyTorch does not see the GPU.
    """
    entries = [entry.strip() for entry in visible.split(",")] if visible else []
    for index, entry in enumerate(entries[: len(names)]):
        # A UUID may be abbreviated.
        if entry == address or (entry.startswith(("GPU-", _MIG)) and address.startswith(entry)):
            return index
    if address in names:
        return names.index(address)
    if not entries and address.isdecimal() and int(address) < len(names):
        return int(address)
    seen = f"{_VISIBLE}={visible}" if visible else f"PyTorch sees {len(names)}"
    raise UserError(
        f"Spark grants the GPU {address} on {socket.gethostname()}, which is not among those that PyTorch sees "
        f"({seen}): let the discovery script of spark.executor.resource.gpu print their UUIDs"
    )


def check_devices(
    store: "TCPStore", device: "torch.device", host: str, rank: int, world_size: int, *, shared: bool
) -> None:
    """Raise UserError, in every rank the same, if some have GPUs and others none, or if two have the same GPU.

    store: of the group, through which the ranks tell each other
    shared: two may have the same GPU
    """
    import torch

    # A GPU's UUID also distinguishes those of containers on one host; before PyTorch 2.5 there is none.
    name = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
    if os.environ.get(_VISIBLE, "").startswith(_MIG):
        name = os.environ[_VISIBLE]  # its UUID is that of the whole GPU
    store.set(f"device/{rank}", json.dumps([host, device.type, name]))
    found = [json.loads(store.get(f"device/{other}")) for other in range(world_size)]
    raise_unless_alike(found, shared=shared)


def raise_unless_alike(found: Sequence[Sequence[str]], *, shared: bool) -> None:
    """found: host, type and name of the device of each rank. Raises UserError as check_devices says."""
    kinds = [kind for _, kind, _ in found]
    if len(set(kinds)) > 1:
        with_gpu, without = kinds.index("cuda"), kinds.index("cpu")
        raise UserError(
            f"rank {with_gpu} on {found[with_gpu][0]} has a GPU and rank {without} on {found[without][0]} has none: "
            f"use hosts of one kind, or hide the GPUs (CUDA_VISIBLE_DEVICES= in spark.executorEnv)"
        )
    first: dict[str, int] = {}
    for rank, (host, kind, name) in enumerate(found):
        if kind == "cuda" and not shared and (other := first.setdefault(name, rank)) != rank:
            raise UserError(
                f"ranks {other} and {rank} on {host} have the same GPU {name}: lower --world_size, or let ranks "
                f"share a GPU with --backend gloo"
            )


def _current(index: int) -> "torch.device":
    import torch

    torch.cuda.set_device(index)
    return torch.device("cuda", index)
