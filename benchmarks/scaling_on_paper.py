"""A simulation on paper: what N nodes of G GPUs send a step, and where the limit lies.

    python benchmarks/scaling_on_paper.py [--nodes 8] [--gpus 8] [--batch_per_gpu 32]

Nothing is measured here. The bytes are exact: they follow from the networks
(models/build.py) and from what the loop sends (training/distributed.py). The speeds of
GPUs and links are assumptions, printed with the result, to be replaced by one's own.

A step sends the gradients, float32, once through a ring all-reduce: each GPU sends and
receives 2 (n-1)/n times their bytes (Patarasu & Yuan 2009). Across nodes the ring goes
through a node's network link once in and once out, so the link carries the same bytes
as one GPU's share. DDP sends buckets of 25 MB (the first of 1 MB) while backward still
computes, two thirds of a step: what is not hidden behind that is waiting. A bucket also
pays the latency of 2 (n-1) hops.

Once an epoch: the statistics of batch norm, 5 C float64 sums, the sums of evaluation.
"""

import argparse
import math
from dataclasses import dataclass

from longtail.models.build import build_model

MEGABYTE = 1e6
FIRST_BUCKET, BUCKET = 1 * 2**20, 25 * 2**20
BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Link:
    """What joins two nodes: bytes/s each way, and seconds a hop."""

    name: str
    bytes_per_second: float
    seconds_per_hop: float


LINKS = [
    Link("10 Gb/s Ethernet, TCP", 10e9 / 8, 50e-6),
    Link("25 Gb/s Ethernet, TCP", 25e9 / 8, 50e-6),
    Link("100 Gb/s RoCE", 100e9 / 8, 10e-6),
    Link("400 Gb/s InfiniBand", 400e9 / 8, 5e-6),
]


@dataclass(frozen=True)
class Network:
    """A network, its classes, and an assumed training speed of one GPU."""

    arch: str
    num_classes: int
    images_per_second: float


# Assumed: round numbers of the order that one data-centre GPU reaches in float32/TF32.
NETWORKS = [Network("resnet32", 10, 20_000), Network("resnet50", 1000, 800), Network("resnet50", 8142, 800)]


@dataclass(frozen=True)
class Traffic:
    """Bytes: of the gradients, of batch norm's statistics, and what a GPU sends a step."""

    gradients: int
    statistics: int
    sent_a_step: float
    num_buckets: int


def traffic(network: Network, num_gpus: int) -> Traffic:
    model = build_model(network.arch, num_classes=network.num_classes, in_channels=3)
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    statistics = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    buckets = 1 + math.ceil(max(0, gradients - FIRST_BUCKET) / BUCKET)
    return Traffic(gradients, statistics, 2 * (num_gpus - 1) / num_gpus * gradients, buckets)


def step(network: Network, link: Link, num_gpus: int, batch_per_gpu: int) -> tuple[float, float, float]:
    """Seconds of computing, of sending, and of the step: computing and what sending cannot be hidden behind."""
    sent = traffic(network, num_gpus)
    compute = batch_per_gpu / network.images_per_second
    send = sent.sent_a_step / link.bytes_per_second + sent.num_buckets * 2 * (num_gpus - 1) * link.seconds_per_hop
    # The last bucket can only be sent when backward is done.
    last = send / sent.num_buckets
    return compute, send, compute + max(last, send - BACKWARD_SHARE * compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--gpus", type=int, default=8, help="of a node")
    parser.add_argument("--batch_per_gpu", type=int, default=32)
    arguments = parser.parse_args()
    num_gpus = arguments.nodes * arguments.gpus
    print(f"{arguments.nodes} nodes x {arguments.gpus} GPUs, {arguments.batch_per_gpu} images a GPU and step\n")
    print("| network | classes | gradients MB | sent a step and GPU MB | buckets | once an epoch: batch norm MB |")
    print("|---|---|---|---|---|---|")
    for network in NETWORKS:
        sent = traffic(network, num_gpus)
        print(
            f"| {network.arch} | {network.num_classes} | {sent.gradients / MEGABYTE:.2f} | "
            f"{sent.sent_a_step / MEGABYTE:.2f} | {sent.num_buckets} | {sent.statistics / MEGABYTE:.3f} |"
        )
    print("\n| network | classes | assumed images/s a GPU | link of a node | compute ms | send ms | step ms | kept |")
    print("|---|---|---|---|---|---|---|---|")
    for network in NETWORKS:
        for link in LINKS:
            compute, send, total = step(network, link, num_gpus, arguments.batch_per_gpu)
            print(
                f"| {network.arch} | {network.num_classes} | {network.images_per_second:,.0f} | {link.name} | "
                f"{1e3 * compute:.1f} | {1e3 * send:.1f} | {1e3 * total:.1f} | {compute / total:.2f} |"
            )


if __name__ == "__main__":
    main()
