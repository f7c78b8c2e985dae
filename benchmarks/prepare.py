"""How fast `prepare` makes a set, how many cores it keeps busy, and what one process does in the same time.

    python benchmarks/prepare.py [--jpegs 2000] [--pixels 50000,400000] [--rounds 3]

Two kinds of data, generated with a long tail over ten classes:

- jpegs: a folder of files of 500 x 375 pixels, prepared as they are (`--dataset folder`);
- pixels: a Parquet table of raw 32 x 32 x 3 images (`--dataset table`), of each of the sizes that are given.

0 images of a kind leave it out.

The ways take turns, `rounds` times, each into an empty directory:

- longtail: spark_jobs.prepare on local[*], its session started before: everything from finding the files to the
  manifest, with class counts, checksums, channel means and the search for duplicates;
- one process: reads every image once, decodes the JPEGs to the last pixel (PIL), and writes one Parquet file
  (pyarrow): the least that a script for the purpose does, without any of those.

Prints images/s and processor time per image (medians), the ratios of the two, and the cores that were busy: CPU seconds
of the process and all below it over the seconds that went by. On a machine that is busy with other work, the processor
time says more. Takes about 2 minutes.
"""

import argparse
import io
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.prepare import prepare

NUM_CLASSES = 10
SAMPLE_SECONDS = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


def labels_of(num_images: int) -> np.ndarray:
    """(N,) long-tailed, every class at least twice."""
    tail = np.floor(NUM_CLASSES * np.random.default_rng(0).random(num_images) ** 3).astype(int)
    tail[: 2 * NUM_CLASSES] = np.tile(np.arange(NUM_CLASSES), 2)
    return tail


def write_jpegs(directory: Path, num_images: int) -> Path:
    """A smooth picture with noise, of about 60 kB."""
    generator = np.random.default_rng(1)
    for number, label in enumerate(labels_of(num_images).tolist()):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(coarse).astype(np.int16) + generator.integers(-20, 21, (375, 500, 1), dtype=np.int16)
        file = directory / str(label) / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=85)
    return directory


def write_pixels(file: Path, num_images: int) -> Path:
    pixels = np.random.default_rng(2).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
    columns = {"image": [image.tobytes() for image in pixels], "label": labels_of(num_images)}
    columns |= {name: np.full(num_images, side) for name, side in (("height", 32), ("width", 32), ("channels", 3))}
    pq.write_table(pa.table(columns), file, row_group_size=4096)
    return file


def longtail(spark: SparkSession, dataset: str, path: Path, target: Path) -> None:
    options = resolve_options(PrepareOptions, {"dataset": dataset, "path": path, "data_dir": target})
    manifest = read_manifest(prepare(spark, options))
    assert manifest.num_bad_images == 0


def one_process(spark: SparkSession, dataset: str, path: Path, target: Path) -> None:
    if dataset == "folder":
        images, labels = [], []
        for file in sorted(path.rglob("*.jpg")):
            content = file.read_bytes()
            Image.open(io.BytesIO(content)).load()
            images.append(content)
            labels.append(int(file.parent.name))
        table = pa.table({"image": images, "label": labels})
    else:
        table = pq.read_table(path)
    pq.write_table(table, target / "set.parquet", compression="lz4", use_dictionary=["label"])


class BusyCores:
    """CPU seconds of this process and all below it, looked up every SAMPLE_SECONDS while the block runs."""

    def __enter__(self) -> "BusyCores":
        self._started, self._before, self._latest = time.monotonic(), _cpu_seconds(), {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._latest.update(_cpu_seconds())
        self.seconds = time.monotonic() - self._started
        used = sum(seconds - self._before.get(pid, 0.0) for pid, seconds in self._latest.items())
        self.cpu_seconds, self.busy = used, used / self.seconds

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._latest.update(_cpu_seconds())


def _cpu_seconds() -> dict[int, float]:
    """By process id."""
    parents, seconds = {}, {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            parents[int(directory.name)] = int(fields[1])
            seconds[int(directory.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return {pid: seconds[pid] for pid in mine if pid in seconds}


WAYS: dict[str, Callable[[SparkSession, str, Path, Path], None]] = {"longtail": longtail, "one process": one_process}


def measure(spark: SparkSession, name: str, dataset: str, path: Path, num_images: int, rounds: int) -> None:
    """Both ways in turns, and what they took."""
    measured: dict[str, list[BusyCores]] = {way: [] for way in WAYS}
    for number in range(-1, rounds):  # the first round warms up
        for way, run in WAYS.items():
            with tempfile.TemporaryDirectory(dir=path.parent) as target, BusyCores() as cores:
                run(spark, dataset, path, Path(target))
            if number >= 0:
                measured[way].append(cores)
    print(f"{name}: {num_images} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}, {rounds} rounds")
    seconds, cpu_seconds, busy = (
        {way: statistics.median(getattr(cores, value) for cores in measured[way]) for way in WAYS}
        for value in ("seconds", "cpu_seconds", "busy")
    )
    for way in WAYS:
        print(
            f"  {way:<12} {num_images / seconds[way]:8.0f} images/s   {busy[way]:4.2f} cores busy   "
            f"{cpu_seconds[way] / num_images * 1e6:8.1f} microseconds of a processor per image"
        )
    ratio, of_cpu = (values["one process"] / values["longtail"] for values in (seconds, cpu_seconds))
    print(f"  longtail is {ratio:.2f} x as fast, {of_cpu:.2f} x by processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jpegs", type=int, default=2000)
    parser.add_argument("--pixels", default="50000", help="one or more sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    spark = spark_session("prepare_benchmark", SparkJobOptions())
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.jpegs:
            directory = write_jpegs(Path(temporary) / "jpegs", arguments.jpegs)
            measure(spark, "jpegs", "folder", directory, arguments.jpegs, arguments.rounds)
        for num_images in filter(None, map(int, arguments.pixels.split(","))):
            file = write_pixels(Path(temporary) / f"pixels_{num_images}.parquet", num_images)
            measure(spark, "pixels", "table", file, num_images, arguments.rounds)
    spark.stop()


if __name__ == "__main__":
    main()
