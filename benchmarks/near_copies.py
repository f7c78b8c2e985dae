"""How many near copies are found, how many images are taken for copies that are none, and what the search costs.

    python benchmarks/near_copies.py recall [--data_dir datasets] [--images 2000]
    python benchmarks/near_copies.py scale [--millions 1] [--master "local[2]"]

recall: CIFAR-10 (32x32x3) and Fashion-MNIST (28x28x1), which are downloaded if they are missing. So many test images
are encoded again or resized in each of several ways; prints the share of these copies that the search finds (a band of
the hash in common, at most MAX_BITS other bits, are_near_copies), and how many of all test images it takes for copies
of a training image. The published sets have some true near copies, so the last number is an upper bound of the errors.

scale: fingerprints of so many unlabeled images, 50,000 labelled and 10,000 test images with the spectrum of photographs
(amplitudes 1/f), made by Spark's tasks; one unlabeled image in a hundred is a test image with noise. Prints what
with_copies finds of them, seconds, and the highest memory (VmHWM) of the JVM and of the driver's Python.
"""

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.conf.arguments import resolve_options
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL, SPLIT
from longtail.data.fingerprints import (
    BAND_BITS,
    CONTENT,
    HASH,
    MAX_BITS,
    NUM_BANDS,
    NUM_FREQUENCIES,
    SKETCH,
    are_near_copies,
    low_frequencies,
    sign_hashes,
)
from longtail.data.loader import image_array
from longtail.data.sources.registry import source_of
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.frames.copies import with_copies, with_copy_counts, with_matches
from longtail.spark_jobs.frames.reading import persisted
from longtail.spark_jobs.steps.copies import IMAGES_PER_TASK

CHANGES = {
    "JPEG 95": (95, 1.0), "JPEG 75": (75, 1.0), "JPEG 50": (50, 1.0), "half the side": (None, 0.5),
    "3/4 of the side": (None, 0.75), "twice the side": (None, 2.0), "twice, JPEG 75": (75, 2.0),
    "half, JPEG 50": (50, 0.5),
}  # fmt: skip
NUM_LABELLED, NUM_TEST = 50_000, 10_000
ROWS_AT_ONCE = 10_000
NOISE = 0.01
PARTS_SCHEMA = pa.schema([
    (ID, pa.int64()), (LABEL, pa.int32()), (HIDDEN_LABEL, pa.int32()), (SPLIT, pa.string()), (CONTENT, pa.int64()),
    (HASH, pa.int64()), (SKETCH, pa.binary()),
])  # fmt: skip


def images_of(dataset: str, data_dir: Path) -> dict[str, np.ndarray]:
    """(N, height, width, channels) by split."""
    options = resolve_options(PrepareOptions, {"dataset": dataset, "data_dir": data_dir})
    source = source_of(options)
    located = source.locate(options)
    parts: dict[str, list[np.ndarray]] = {TRAIN: [], TEST: []}
    for shard in located.shards:
        parts[shard.split].append(image_array(source.read(shard).column(IMAGE), located.image_shape))
    return {split: np.concatenate(images) for split, images in parts.items()}


def changed(image: np.ndarray, quality: int | None, scale: float) -> np.ndarray:
    """The image resized and encoded as JPEG, read back at its own size."""
    side = image.shape[0]
    picture = Image.fromarray(image.squeeze())
    if scale != 1:
        picture = picture.resize((round(side * scale), round(side * scale)), Image.Resampling.BICUBIC)
    if quality is not None:
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=quality)
        picture = Image.open(content)
    if scale != 1:
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(image.shape)


def are_candidates(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether hashes (N,) agree in a band and differ in few bits."""
    differing = np.bitwise_xor(first, second)
    bands = [(differing >> (band * BAND_BITS)) & ((1 << BAND_BITS) - 1) == 0 for band in range(NUM_BANDS)]
    return np.any(bands, axis=0) & (np.bitwise_count(differing) <= MAX_BITS)


def num_taken_for_copies(test: np.ndarray, train: np.ndarray) -> int:
    """Test images, by their low frequencies, that the search takes for copies of a training image."""
    train_hashes, test_hashes = sign_hashes(train), sign_hashes(test)
    taken = 0
    for frequencies, of_test in zip(test, test_hashes, strict=True):
        found = np.flatnonzero(are_candidates(train_hashes, of_test))
        taken += bool(are_near_copies(np.repeat(frequencies[None], len(found), axis=0), train[found]).any())
    return taken


def recall(data_dir: Path, num_images: int) -> None:
    for dataset in ("cifar10", "fashion_mnist"):
        images = images_of(dataset, data_dir)
        chosen = np.random.default_rng(0).permutation(len(images[TEST]))[:num_images]
        originals = low_frequencies(images[TEST][chosen])
        print(f"{dataset}, {len(chosen)} test images")
        for name, (quality, scale) in CHANGES.items():
            copies = low_frequencies(np.stack([changed(images[TEST][i], quality, scale) for i in chosen]))
            candidates = are_candidates(sign_hashes(originals), sign_hashes(copies))
            found = candidates & are_near_copies(originals, copies)
            print(f"  {name:16} {found.mean():7.2%} found, candidates {candidates.mean():7.2%}")
        taken = num_taken_for_copies(low_frequencies(images[TEST]), low_frequencies(images[TRAIN]))
        print(
            f"  {taken} of {len(images[TEST])} test images are taken for copies of {len(images[TRAIN])} training images"
        )


def made_up_frequencies(ids: np.ndarray) -> np.ndarray:
    """(N, NUM_FREQUENCIES) float32, the same for the same ids, drawn in blocks of ids."""
    rows = np.empty((len(ids), NUM_FREQUENCIES), np.float32)
    blocks = ids // ROWS_AT_ONCE
    for block in np.unique(blocks):
        drawn = np.random.default_rng(int(block)).standard_normal((ROWS_AT_ONCE, NUM_FREQUENCIES), np.float32)
        rows[blocks == block] = drawn[ids[blocks == block] % ROWS_AT_ONCE]
    side = np.arange(8)
    return rows * 40 / np.hypot(*np.meshgrid(side, side)).reshape(-1)[1:].astype(np.float32)


def made_up_parts(spark: SparkSession, num_unlabeled: int) -> DataFrame:
    """Fingerprints: ids up to NUM_TEST are test images, then come labelled, then unlabeled ones."""

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column(0).to_numpy()
            frequencies = made_up_frequencies(ids)
            is_unlabeled = ids >= NUM_TEST + NUM_LABELLED
            is_copy = is_unlabeled & (ids % 100 == 0)
            originals = made_up_frequencies(ids[is_copy] // 100 % NUM_TEST)
            noise = NOISE * np.linalg.norm(originals, axis=1, keepdims=True) / NUM_FREQUENCIES**0.5
            frequencies[is_copy] = originals + noise * frequencies[is_copy] / 40
            split = np.where(is_unlabeled, UNLABELED, np.where(ids < NUM_TEST, TEST, TRAIN))
            columns = [
                pa.array(ids), pa.nulls(len(ids), pa.int32()), pa.nulls(len(ids), pa.int32()),
                pa.array(split.tolist(), pa.string()), pa.array(ids), pa.array(sign_hashes(frequencies)),
                pa.array([row.tobytes() for row in frequencies.astype(np.float16)], pa.binary()),
            ]  # fmt: skip
            yield pa.RecordBatch.from_arrays(columns, schema=PARTS_SCHEMA)

    total = NUM_TEST + NUM_LABELLED + num_unlabeled
    numbers = spark.range(0, total, 1, max(2, total // 50_000))
    return numbers.mapInArrow(make, from_arrow_schema(PARTS_SCHEMA))


def highest_memory_gib(pid: int | str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024**2


def jvm_pid(context: SparkContext) -> int:
    jvm: Any = context._jvm  # objects of the JVM have no static type
    return int(jvm.java.lang.ProcessHandle.current().pid())


def scale(num_unlabeled: int, master: str) -> None:
    spark = spark_session("near_copies", SparkJobOptions(master=master))
    with persisted(made_up_parts(spark, num_unlabeled)) as parts:
        start = time.perf_counter()
        print(f"{parts.count()} fingerprints made in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        num_tasks = 1 + (NUM_TEST + NUM_LABELLED + num_unlabeled) // IMAGES_PER_TASK
        with persisted(with_matches(parts, near=True, num_tasks=num_tasks)) as matches:
            print(f"{matches.where(F.col('of_id').isNull()).distinct().count()} images have candidates for near copies")
            copies = with_copies(parts, matches, near=True, num_tasks=num_tasks)
            for row in with_copy_counts(copies).collect():
                print(f"{row.num_images} {row[SPLIT]} images are {row.kind} copies of {row.of} images")
        seconds = time.perf_counter() - start
        print(f"{num_unlabeled // 100} copies were made; the search took {seconds:.0f} s")
        jvm, python = highest_memory_gib(jvm_pid(spark.sparkContext)), highest_memory_gib("self")
        print(f"highest memory: JVM {jvm:.2f} GiB, Python of the driver {python:.2f} GiB")
    spark.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["recall", "scale"])
    parser.add_argument("--data_dir", type=Path, default=Path("datasets"))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--millions", type=float, default=1.0)
    parser.add_argument("--master", default="local[2]")
    arguments = parser.parse_args()
    if arguments.what == "recall":
        recall(arguments.data_dir, arguments.images)
    else:
        scale(round(arguments.millions * 1e6), arguments.master)


if __name__ == "__main__":
    main()
