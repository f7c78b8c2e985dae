"""Writes the images of a prepared set: each task reads some shards of the sources and writes the files of its rows.

The pixels go from the source to the file in one process, and never through the JVM. Which image belongs to which part
follows from its id alone (data/draws.py); which file it is in, from its shard, so that each file has the same content
on every cluster.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import NO_CLASS, SPLITS, TRAIN, UNLABELED
from longtail.data.checksums import as_text
from longtail.data.contract import ID, IMAGE, IRRELEVANT_FIRST_ID, LABEL, ROWS_DIRECTORY, SPLIT, split_directory
from longtail.data.draws import Draw
from longtail.data.set_files import FILE_BYTES, SetFiles
from longtail.data.sources.base import Shard, with_check
from longtail.spark_jobs.steps.set_sources import LocatedSource

_SCHEMA = f"{SPLIT} string, checksum string, class_counts string"


@dataclass(frozen=True)
class WrittenRows:
    """What was written: by split, images by class (NO_CLASS for those of none), and the checksum."""

    class_counts: Mapping[str, Mapping[int, int]]
    checksums: Mapping[str, str]


def write_rows(
    spark: SparkSession,
    sources: Sequence[LocatedSource],
    set_dir: Location,
    draw: Draw,
    *,
    num_images: int,
    file_bytes: int = FILE_BYTES,
) -> WrittenRows:
    """Write the images of a set, by a call of run_to_their_end().

    num_images: that are in it; file_bytes: of the images of a file, about
    """
    # An encoded image takes at most about as many bytes as its pixels.
    image_bytes = int(np.prod(sources[0].located.image_shape))
    files_per_split = math.ceil(max(num_images, 1) * image_bytes / file_bytes)
    tasks = _shards_of_tasks(sources, files_per_split)
    if isinstance(set_dir, Path):
        for split in SPLITS:
            split_directory(set_dir, split).mkdir(parents=True, exist_ok=True)

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                files = SetFiles(set_dir, number, mix=files_per_split > 1, file_bytes=file_bytes)
                yield _write_files(sources, tasks[number], files, draw)

    numbers = spark.range(0, len(tasks), 1, numPartitions=len(tasks))
    rows = [tuple(row) for row in numbers.mapInArrow(write, _SCHEMA).collect()]
    if isinstance(set_dir, Path):
        _remove_unfinished(set_dir)
    return _together(rows)


def _shards_of_tasks(sources: Sequence[LocatedSource], files_per_split: int) -> list[list[tuple[int, Shard]]]:
    """The shards of each task, with the index of their source.

    Those of different splits of the sources are written by different tasks. Every ``files_per_split``-th shard belongs
    to the same task: a source may be sorted by class, and its images should be mixed in each file.
    """
    by_split: dict[str, list[tuple[int, Shard]]] = {}
    for number, source in enumerate(sources):
        for shard in source.located.shards:
            by_split.setdefault(UNLABELED if source.is_irrelevant else shard.split, []).append((number, shard))
    strided = (shards[first::files_per_split] for shards in by_split.values() for first in range(files_per_split))
    return [shards for shards in strided if shards]


def _write_files(
    sources: Sequence[LocatedSource], shards: Sequence[tuple[int, Shard]], files: SetFiles, draw: Draw
) -> pa.RecordBatch:
    """Write the files of one task, and say what is in them (_SCHEMA)."""
    with files:
        for rows in _read_ahead(sources, shards):
            for split, (part, hashes) in draw.parts_of(rows).items():
                files.add(split, part, hashes)
        written = files.finish()
    columns = [
        [of.split for of in written],
        [as_text(of.checksum) for of in written],
        [json.dumps(of.class_counts) for of in written],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, pa.string()) for column in columns], names=[SPLIT, "checksum", "class_counts"]
    )


def _read_ahead(sources: Sequence[LocatedSource], shards: Sequence[tuple[int, Shard]]) -> Iterator[pa.RecordBatch]:
    """The rows of each shard; while one is written, the next is read."""

    def read(index: int, shard: Shard) -> pa.RecordBatch:
        source = sources[index]
        # The fingerprints were taken of all images, which were checked then.
        rows = source.source.read(with_check(shard, None))
        return _as_irrelevant(rows) if source.is_irrelevant else rows

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, *shards[0])
        for next_shard in shards[1:]:
            rows, following = following.result(), reader.submit(read, *next_shard)
            yield rows
        yield following.result()


def _as_irrelevant(rows: pa.RecordBatch) -> pa.RecordBatch:
    """As frames/reading.py's as_irrelevant."""
    rows = rows.filter(pc.equal(rows.column(SPLIT), TRAIN))
    columns = {
        ID: pc.add(rows.column(ID), IRRELEVANT_FIRST_ID),
        IMAGE: rows.column(IMAGE),
        LABEL: pa.array(np.full(rows.num_rows, NO_CLASS, np.int32)),
        SPLIT: pa.array([UNLABELED] * rows.num_rows, pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


def _remove_unfinished(set_dir: Path) -> None:
    """Remove the directories of splits without an image, and the hidden files of tasks that were killed."""
    for split in SPLITS:
        directory = set_dir / ROWS_DIRECTORY / f"{SPLIT}={split}"
        for file in directory.glob(".*"):
            file.unlink()
        if not any(directory.iterdir()):
            directory.rmdir()


def _together(rows: Sequence[tuple[str, str, str]]) -> WrittenRows:
    checksums = dict.fromkeys(sorted({split for split, _, _ in rows}), 0)
    class_counts: dict[str, dict[int, int]] = {split: {} for split in SPLITS}
    for split, checksum, counts in rows:
        checksums[split] += int(checksum, base=16)
        for label, count in json.loads(counts).items():
            class_counts[split][int(label)] = class_counts[split].get(int(label), 0) + count
    return WrittenRows(class_counts, {split: as_text(total) for split, total in checksums.items()})
