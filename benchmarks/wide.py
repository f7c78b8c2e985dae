"""Every job at very many classes and images: no driver may need more memory than MAX_MIB.

    python -m benchmarks.wide [--images 5000000] [--classes 8142] [--directory DIR] [--slots 2] [--driver_memory 1g]

Tables of random images of 8x8 pixels with long-tailed labels, four fifths of them labelled. On them, as a user starts
them: prepare, stats, train (one epoch), gen_pseudolabels, evaluate, the live tables (monitor --once) and the live page.
Prints for each: seconds, and the highest resident sizes (VmHWM) of the driver's Python, of the JVM and of the largest
Python worker; of the page also the time of its state and the size of that. The JVM, which has the tasks of a local
master, too, takes as much as its heap may: what the jobs need shows with a small one. 5 million images need about 5 GB
of disk.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command_memory import KINDS, SAMPLE_SECONDS, PeakMemory, seconds_and_memory, shown
from benchmarks.page_of_old_runs import dashboard, get
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY
from longtail.streaming.tables.manifest import list_runs

MAX_MIB = 2048
SIDE = 8
SMALLEST_CLASS = 10
ROWS_PER_FILE = 100_000
MORE_LOOKS = 40
"""At the memory of the dashboard once it has tables: Spark's query starts after what waits is read."""


def class_sizes(num_images: int, num_classes: int) -> np.ndarray:
    """(C,) long-tailed, none below SMALLEST_CLASS; together about num_images."""
    weights = 1 / np.arange(1, 1 + num_classes) ** 0.8
    rest = num_images - num_classes * SMALLEST_CLASS
    return SMALLEST_CLASS + np.floor(rest * weights / weights.sum()).astype(int)


def write_table(table: Path, sizes: np.ndarray, *, seed: int) -> Path:
    """Files of images and labels, in any order."""
    table.mkdir()
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    for first in range(0, len(labels), ROWS_PER_FILE):
        part = labels[first : first + ROWS_PER_FILE]
        pixels = generator.integers(0, 256, (len(part), 3 * SIDE * SIDE), dtype=np.uint8)
        images = pa.array([row.tobytes() for row in pixels], pa.binary())
        of_part = {"image": images, "label": pa.array([f"class {label:05d}" for label in part])}
        of_part |= {
            name: np.full(len(part), side) for name, side in (("height", SIDE), ("width", SIDE), ("channels", 3))
        }
        pq.write_table(pa.table(of_part), table / f"part-{first:010d}.parquet")
    return table


def page_memory(runs_dir: Path) -> tuple[float, list[float]]:
    """Seconds of the page's state once all events are read, and the memory of the dashboard, Spark included."""
    with dashboard(runs_dir) as (process, address, _):
        memory = PeakMemory(process.pid)
        while not memory.largest()[1] or not list_runs(runs_dir / PAGE_TABLES_DIRECTORY):
            memory.look()
            time.sleep(SAMPLE_SECONDS)
        for _ in range(MORE_LOOKS):
            memory.look()
            body, seconds, num_bytes = get(f"{address}state", version="")
            time.sleep(SAMPLE_SECONDS)
    print(f"    the state of the page: {len(body) / 1e6:.2f} MB, {num_bytes / 1e6:.2f} MB on the wire")
    return seconds, memory.largest()


def main() -> None:
    parser = argparse.ArgumentParser(description="every job at very many classes and images")
    parser.add_argument("--images", type=int, default=5_000_000)
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--directory", type=Path, help="where tables, set and runs are written")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--driver_memory", default="1g", help="heap of the JVM (default 1g; Longtail's own is 2g)")
    arguments = parser.parse_args()
    os.environ["SPARK_DRIVER_MEMORY"] = arguments.driver_memory
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        root = Path(temporary)
        sizes = class_sizes(arguments.images, arguments.classes)
        labelled = write_table(root / "labelled", sizes - sizes // 5, seed=0)
        unlabeled = write_table(root / "unlabeled", sizes // 5, seed=1)
        runs_dir = root / "runs"
        of_set = ["--dataset", "table", "--path", labelled, "--unlabeled", unlabeled, "--imb_type", "natural"]
        of_set += ["--image_size", SIDE, "--test_fraction", 0.1, "--data_dir", root / "datasets"]
        spark = ["--master", f"local[{arguments.slots}]"]

        def checkpoint() -> Path:
            return next(runs_dir.glob("*/ckpt.pth.tar"))

        steps: dict[str, Callable[[], tuple[float, list[float]]]] = {
            "prepare": lambda: seconds_and_memory("prepare", *of_set, *spark),
            "stats": lambda: seconds_and_memory("stats", *of_set, *spark),
            "train": lambda: seconds_and_memory(
                "train", *of_set, *spark, "--epochs", 1, "-b", 512, "-a", "resnet20", "--runs_dir", runs_dir
            ),
            "gen_pseudolabels": lambda: seconds_and_memory(
                "gen_pseudolabels", *of_set, *spark, "--resume", checkpoint()
            ),
            "evaluate": lambda: seconds_and_memory("evaluate", *of_set, *spark, "--resume", checkpoint()),
            "monitor": lambda: seconds_and_memory("monitor", *spark, "--once", "--runs_dir", runs_dir),
            "dashboard": lambda: page_memory(runs_dir),
        }
        print(f"{sizes.sum()} images of {SIDE}x{SIDE}, {arguments.classes} classes, local[{arguments.slots}]")
        print(f"{'':16}{'seconds':>9}" + "".join(f"{f'{kind} MiB':>12}" for kind in KINDS))
        for name, step in steps.items():
            try:
                seconds, memory = step()
            except RuntimeError as error:  # the others can be measured all the same
                print(f"{name:16}  {error}", flush=True)
                continue
            driver = max(memory[:2])
            print(f"{name:16}{seconds:9.1f}{shown(memory)}{'' if driver <= MAX_MIB else '  too much'}", flush=True)


if __name__ == "__main__":
    main()
