"""Where the ranks of a barrier stage meet: addresses, network interfaces and the key-value store of their group.

Spark knows an address of every task's host. The interface that has it is the one through which the hosts reach each
other, so gloo and NCCL are told to use it: by themselves, they resolve the name of their host, which is 127.0.1.1 on
Debian, or take the first interface that they find.
"""

import fcntl
import socket
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pyspark import BarrierTaskContext

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.environment import added_environment

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

GROUP_TIMEOUT = timedelta(minutes=10)
LOOPBACK = "127.0.0.1"
_ANY_PORT = 9
"""Nothing is sent to it."""
_SIOCGIFCONF = 0x8912
_IFREQ = struct.Struct("16s4x4s16x")
"""struct ifreq of Linux on 64 bits: name; address family and port, which are skipped; IPv4 address."""
_IFCONF = "iL"
"""struct ifconf: bytes of a buffer, and its address."""
_MOST_ADDRESSES = 1024


@dataclass(frozen=True)
class Rendezvous:
    """Where the ranks connect.

    hosts: the address of each rank's host, as Spark knows it
    own_address: IPv4 address under which the others reach this rank
    addresses: HOST:PORT of rank 0, which listens there, then an empty string for each other rank
    listener: rank 0's socket; None in the other ranks
    """

    hosts: list[str]
    own_address: str
    addresses: "Future[list[str]]"
    listener: socket.socket | None

    def store(self) -> "TCPStore":
        """The key-value store of the group; rank 0 serves it."""
        # Documented there, though torch does not mark it as exported.
        from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

        host, _, port = self.addresses.result()[0].rpartition(":")
        return TCPStore(
            host,
            int(port),
            is_master=self.listener is not None,
            wait_for_workers=False,
            timeout=GROUP_TIMEOUT,
            master_listen_fd=None if self.listener is None else self.listener.detach(),
        )


def hosts_of_ranks(context: BarrierTaskContext) -> list[str]:
    """The address of each rank's host, as Spark knows it: a name or an IP address."""
    return [info.address.rpartition(":")[0] for info in context.getTaskInfos()]


@contextmanager
def rendezvous(context: BarrierTaskContext) -> Iterator[Rendezvous]:
    """Start the exchange of addresses."""
    hosts, rank = hosts_of_ranks(context), context.partitionId()
    # On loopback if all share a host.
    own = LOOPBACK if len(set(hosts)) == 1 else own_address(hosts, rank)
    with socket.socket() as listener, ThreadPoolExecutor(1) as exchange:
        if rank == 0:
            # Bound before the address is published, so that nobody takes the port.
            listener.bind((own, 0))
            listener.listen()
        address = ":".join(map(str, listener.getsockname())) if rank == 0 else ""
        # allGather takes about a second, in which torch is imported.
        addresses = exchange.submit(context.allGather, address)
        yield Rendezvous(hosts, own, addresses, listener if rank == 0 else None)


def own_address(hosts: Sequence[str], rank: int) -> str:
    """The IPv4 address under which the other hosts reach the rank's.

    It is the one that Spark knows, unless that is a name that means loopback on its own host, as on Debian: then it is
    the one from which this host would send to another.
    """
    known = _resolved(hosts[rank])
    if not known.startswith("127."):
        return known
    other = next(host for host in hosts if host != hosts[rank])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((_resolved(other), _ANY_PORT))
        return probe.getsockname()[0]


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} cannot resolve the host {host}, where another rank runs ({error.strerror}): "
            f"give it a name that all hosts know, or start Spark's workers with --host IP"
        ) from None


def interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address, further addresses of an interface included; None if none has."""
    if sys.platform != "linux":
        return None
    buffer = array("B", bytes(_IFREQ.size * _MOST_ADDRESSES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack(_IFCONF, len(buffer), buffer.buffer_info()[0])
        num_bytes, _ = struct.unpack(_IFCONF, fcntl.ioctl(any_socket, _SIOCGIFCONF, request))
    for name, packed in _IFREQ.iter_unpack(buffer[:num_bytes].tobytes()):
        if socket.inet_ntoa(packed) == address:
            # A further address may have a label of its own, eth0:1.
            return name.split(b"\0")[0].decode().partition(":")[0]
    return None


@contextmanager
def interface_for(address: str) -> Iterator[None]:
    """Let gloo and NCCL use the interface with this address, unless the user has chosen one.

    The environment is restored afterwards, since Spark reuses workers.
    """
    name = interface_of(address)
    if name is None:
        yield
        return
    # NCCL takes a name for a prefix, unless it follows an equals sign.
    with added_environment(GLOO_SOCKET_IFNAME=name, NCCL_SOCKET_IFNAME=f"={name}"):
        yield
