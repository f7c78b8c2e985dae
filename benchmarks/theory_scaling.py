"""How the simulation of the theorems scales over cores, and what Spark costs it.

    python benchmarks/theory_scaling.py [--draws 1000000000] [--rounds 3]

The same blocks are simulated in four ways, one after the other, `rounds` times
over, each after a warm-up:

- plain[1], plain[2]: training.theory in one process and in a pool of two, without Spark;
- local[1], local[2]: spark_jobs.studies.theory.evaluate_grid with one and with two task slots.

The point is T2's, of which every repetition is one normal number that is really
drawn: no repetition stands for more samples than itself. Prints draws/s (median
over rounds, the range beside it), and the ratios of two to one. plain[2] /
plain[1] is what the machine itself gives to a second process: with other load on
it, or with cores that share a clock, that is less than 2.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import Point, Sweep, TheoryGrid
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.studies.theory import evaluate_grid
from longtail.training.theory.evaluation import block_sizes, simulate_block

PARAMETERS = {"p_positive": 0.1, "b": 4, "sigma": 1, "t_norm": 1, "c": 1}


def without_spark(grid: TheoryGrid, options: TheoryOptions, draws: int, *, processes: int) -> float:
    (point,) = grid.sweeps[0].points()
    sizes = block_sizes(draws, options.block_repetitions)
    # Spawned, so that no process inherits the Spark connection of this one.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [(point, options.seed, range(first, len(sizes), processes), sizes) for first in range(processes)]
        list(pool.map(simulate_share, [(point, options.seed, range(20), sizes)] * processes))  # starts the processes
        return timed(draws, lambda: list(pool.map(simulate_share, shares)))


def simulate_share(share: tuple[Point, int, range, list[int]]) -> int:
    point, seed, blocks, sizes = share
    return sum(simulate_block(point, seed=seed, block=block, repetitions=sizes[block]).hits for block in blocks)


def with_slots(grid: TheoryGrid, options: TheoryOptions, draws: int, *, slots: int) -> float:
    spark = spark_session("theory_scaling", options.model_copy(update={"master": f"local[{slots}]"}))
    few = options.model_copy(update={"repetitions": 20 * options.block_repetitions})
    evaluate_grid(spark, few, grid)  # starts the Python workers
    speed = timed(draws, lambda: evaluate_grid(spark, options.model_copy(update={"repetitions": draws}), grid))
    spark.stop()
    return speed


def timed(draws: int, work: Callable[[], object]) -> float:
    """Draws per second."""
    started = time.monotonic()
    work()
    return draws / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1_000_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    options = TheoryOptions()
    sweep = Sweep(name="scaling", theorem="T2", repetitions=arguments.draws, parameters=PARAMETERS)
    grid = TheoryGrid(sweeps=[sweep])
    speeds: dict[str, list[float]] = {name: [] for name in ("plain[1]", "plain[2]", "local[1]", "local[2]")}
    for _ in range(arguments.rounds):
        for count in (1, 2):
            speeds[f"plain[{count}]"].append(without_spark(grid, options, arguments.draws, processes=count))
        for count in (1, 2):
            speeds[f"local[{count}]"].append(with_slots(grid, options, arguments.draws, slots=count))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"T2, {arguments.draws:,} draws, {arguments.rounds} rounds, {os.cpu_count()} cores, load average {load}")
    for name, measured in speeds.items():
        low, high = min(measured) / 1e6, max(measured) / 1e6
        print(f"{name:<9}{statistics.median(measured) / 1e6:8.1f} million draws/s ({low:.1f} to {high:.1f})")
    for over, under in (("local[2]", "local[1]"), ("plain[2]", "plain[1]"), ("local[1]", "plain[1]")):
        ratios = [a / b for a, b in zip(speeds[over], speeds[under], strict=True)]
        print(f"{over} / {under}  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
