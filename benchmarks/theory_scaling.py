"""How the simulation of the theorems scales over cores, and what Spark costs it.

    python benchmarks/theory_scaling.py [--draws 1000000000] [--rounds 3]

Three ways to make the same blocks are timed in turn, `rounds` times over, after a
warm-up of each session:

- alone: training.theory in a loop in this process, without Spark (a tenth of the draws);
- local[1], local[2]: spark_jobs.theory.evaluate with one and with two task slots.

The point is T2's, of which every repetition is one normal number that is really
drawn: no repetition stands for more samples than itself. Prints draws/s (median
over rounds, the range beside it) and the ratios local[2]/local[1] and
local[1]/alone. Run it on an idle machine: other load counts against local[2].
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

from conf.schema import TheoryOptions
from conf.theory_grid import Sweep, TheoryGrid
from spark_jobs.session import spark_session
from spark_jobs.theory import evaluate
from training.theory.evaluation import block_sizes, simulate_block

PARAMETERS = {"p_positive": 0.1, "b": 4, "sigma": 1, "t_norm": 1, "c": 1}


def alone(grid: TheoryGrid, options: TheoryOptions, draws: int) -> float:
    (point,) = grid.sweeps[0].points()
    return timed(
        draws,
        lambda: [
            simulate_block(point, seed=options.seed, block=block, repetitions=size)
            for block, size in enumerate(block_sizes(draws, options.block_repetitions))
        ],
    )


def with_slots(grid: TheoryGrid, options: TheoryOptions, draws: int, *, slots: int) -> float:
    spark = spark_session("theory_scaling", options.model_copy(update={"master": f"local[{slots}]"}))
    few = options.model_copy(update={"repetitions": 20 * options.block_repetitions})
    evaluate(spark, few, grid)  # starts the Python workers
    speed = timed(draws, lambda: evaluate(spark, options.model_copy(update={"repetitions": draws}), grid))
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
    speeds: dict[str, list[float]] = {"alone": [], "local[1]": [], "local[2]": []}
    for _ in range(arguments.rounds):
        speeds["alone"].append(alone(grid, options, arguments.draws // 10))
        for slots in (1, 2):
            speeds[f"local[{slots}]"].append(with_slots(grid, options, arguments.draws, slots=slots))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"T2, {arguments.draws:,} draws, {arguments.rounds} rounds, {os.cpu_count()} cores, load average {load}")
    for name, measured in speeds.items():
        low, high = min(measured) / 1e6, max(measured) / 1e6
        print(f"{name:<9}{statistics.median(measured) / 1e6:8.1f} million draws/s ({low:.1f} to {high:.1f})")
    ratios = [two / one for one, two in zip(speeds["local[1]"], speeds["local[2]"], strict=True)]
    overhead = [one / bare for bare, one in zip(speeds["alone"], speeds["local[1]"], strict=True)]
    print(f"local[2] / local[1]  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"local[1] / alone     {statistics.median(overhead):.2f} ({min(overhead):.2f} to {max(overhead):.2f})")


if __name__ == "__main__":
    main()
