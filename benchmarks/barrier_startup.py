"""What Spark costs a training before its first step and after its last.

    python benchmarks/barrier_startup.py [--rounds 3] [--epochs 3]

On the embedded digits, which the benchmark prepares in a directory of its own. In each
round, one after the other:

- cold: the time of `longtail train` less the time of the same training without Spark
  (`python -m longtail.training train`), both from the start of the process to its end;
- warm: the time of a second training in a session that ran one, less the time of its
  epochs by its own events;
- first step: from the call to the first all-reduce of two ranks, in the barrier stage and
  in pyspark's TorchDistributor (barrier mode, CPU), each in a fresh session of its own:
  the first call (cold) and the second (warm).

Prints the median and all values of each, and where a cold training's time goes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

COMMON = ["--dataset", "digits", "--threads", "1"]


def first_step(peer: str) -> dict[str, float]:
    """Seconds from the call to the first all-reduce, twice in one session; runs in a process of its own."""
    from longtail.conf.options.base import SparkJobOptions
    from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
    from longtail.spark_jobs.cluster.session import spark_session

    started = time.monotonic()
    spark = spark_session("startup", SparkJobOptions(master="local[2]"))
    seconds = {"session": time.monotonic() - started}

    def rank_main(rank: Any = None) -> dict[str, float]:
        import time

        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo")  # by the environment that torchrun sets
        dist.all_reduce(torch.ones(1))
        return {"at": time.time()}

    for temperature in ("cold", "warm"):
        called = time.time()
        if peer == "longtail":
            results = run_in_barrier_stage(spark, rank_main, world_size=2, description="first step", threads=1)
            reached = max(result["at"] for result in results)
        else:
            from pyspark.ml.torch.distributor import TorchDistributor

            distributor = TorchDistributor(num_processes=2, local_mode=False, use_gpu=False)
            reached = distributor.run(rank_main)["at"]
        seconds[temperature] = reached - called
    spark.stop()
    return seconds


def warm_training(directory: str, epochs: int) -> dict[str, float]:
    """Where the time of two trainings in one session goes; runs in a process of its own."""
    started = time.time()
    seconds: dict[str, float] = {}

    def take(what: str) -> None:
        nonlocal started
        seconds[what], started = time.time() - started, time.time()

    from longtail.conf.arguments import parse_options
    from longtail.conf.options.training import TrainOptions
    from longtail.spark_jobs.cluster.session import spark_session
    from longtail.spark_jobs.steps.prepare import prepare
    from longtail.spark_jobs.steps.training import train_run

    take("imports")
    flags = [*COMMON, "--epochs", str(epochs), "--data_dir", f"{directory}/data", "--runs_dir", f"{directory}/runs"]
    options = parse_options(TrainOptions, flags, prog="benchmark")
    spark = spark_session("startup", options)
    take("session")
    set_dir = prepare(spark, options)
    take("prepare")
    for temperature in ("cold", "warm"):
        again = options.model_copy(update={"exp_str": f"{temperature}{time.time_ns()}"})
        run = train_run(spark, again, set_dir=set_dir, show_progress=False)
        events = sorted((again.runs_dir / "events").glob(f"{run.run_dir.name}-*-epoch*.parquet"))
        first, last = (pq.read_table(events[i]).to_pylist()[0] for i in (0, -1))
        first_step = first["emitted_at"] - first["epoch_seconds"]
        seconds[f"{temperature} training, to the first step"] = first_step - started
        seconds[f"{temperature} training, after the last epoch"] = time.time() - last["emitted_at"]
        started = time.time()
    spark.stop()
    return seconds


def in_process(what: str, *arguments: object) -> dict[str, float]:
    """One of the functions above in a fresh interpreter."""
    command = [sys.executable, __file__, "--only", json.dumps([what, *arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def wall(*command: object, cwd: str) -> float:
    started = time.monotonic()
    subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, check=True)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        what, *rest = json.loads(arguments.only)
        print(json.dumps({"first_step": first_step, "warm_training": warm_training}[what](*rest)))
        return
    longtail = Path(sys.executable).with_name("longtail")
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        wall(longtail, "prepare", "--dataset", "digits", "--data_dir", "data", cwd=directory)
        (manifest,) = Path(directory).glob("data/prepared/*/manifest.json")
        for number in range(arguments.rounds):
            flags = [*COMMON, "--epochs", arguments.epochs, "--data_dir", "data", "--exp_str", number]
            bare = wall(
                sys.executable, "-m", "longtail.training", "train", "--set_dir", manifest.parent, *flags,
                "--runs_dir", "bare", cwd=directory,
            )  # fmt: skip
            with_spark = wall(longtail, "train", *flags, "--runs_dir", "spark", cwd=directory)
            found["train, process: longtail"].append(with_spark)
            found["train, process: without Spark"].append(bare)
            found["train, process: difference (cold)"].append(with_spark - bare)
            parts = in_process("warm_training", directory, arguments.epochs)
            for part, seconds in parts.items():
                found[f"in a session: {part}"].append(seconds)
            warm = sum(seconds for part, seconds in parts.items() if part.startswith("warm"))
            found["in a session: warm training less its epochs"].append(warm)
            for peer in ("longtail", "TorchDistributor"):
                for temperature, seconds in in_process("first_step", peer).items():
                    if temperature != "session":
                        found[f"first step of 2 ranks, {temperature}: {peer}"].append(seconds)
    for what, seconds in found.items():
        values = ", ".join(f"{value:.2f}" for value in seconds)
        print(f"{what:<58}{statistics.median(seconds):8.2f} s   ({values})")
    for temperature in ("cold", "warm"):
        ours, theirs = (
            statistics.median(found[f"first step of 2 ranks, {temperature}: {peer}"])
            for peer in ("longtail", "TorchDistributor")
        )
        print(f"first step, {temperature}: TorchDistributor / longtail  {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
