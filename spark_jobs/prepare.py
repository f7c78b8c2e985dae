"""Build a long-tailed Parquet data set.

    longtail prepare --dataset cifar10 --imb_type exp --imb_factor 0.01
    spark-submit spark_jobs/prepare.py --dataset cifar10 --imb_type exp --imb_factor 0.01

Reads the source in its published layout, chooses images class by class, and
writes DATA_DIR/prepared/NAME/: split=train, split=test, with --val_fraction
split=val, with --imb_factor_unlabel split=unlabeled, and a manifest. NAME
changes with every parameter; a set that is already there is used as it is.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.arguments import data_flags, parse_options
from conf.errors import UserError
from conf.files import new_directory
from conf.schema import DataOptions, PrepareOptions
from data.contract import ID, IMAGE, ROWS_DIRECTORY, SCHEMA_VERSION, SPLIT, SPLITS, TEST, TRAIN, UNLABELED, VAL
from data.longtail import check_pool, labelled_counts, unlabeled_counts, validation_counts
from data.manifest import Manifest, read_manifest
from data.sources.registry import SOURCES
from spark_jobs.cli import run_job
from spark_jobs.session import spark_session
from spark_jobs.transforms import (
    LongTail,
    keep_long_tail,
    read_prepared,
    source_images,
    with_class_counts,
    with_split_checksums,
    with_split_counts,
)

PREPARED_DIRECTORY = "prepared"
TARGET_FILE_BYTES = 128 * 1024**2
ROW_GROUP_BYTES = 16 * 1024**2


def main(argv: Sequence[str]) -> None:
    options = parse_options(PrepareOptions, argv, prog="longtail prepare")
    set_dir = prepare(spark_session("prepare", options), options)
    flags = data_flags(options)
    print(f"prepared set: {set_dir}\nnext: longtail stats {flags}\n  or: longtail train {flags}")


def prepared_set_dir(options: DataOptions) -> Path:
    return options.data_dir.absolute() / PREPARED_DIRECTORY / options.set_name()


def prepare(spark: SparkSession, options: DataOptions) -> Path:
    """The directory of the prepared set, made if it is not there. Raises UserError for bad input."""
    set_dir = prepared_set_dir(options)
    if set_dir.exists():
        read_manifest(set_dir)
        return set_dir
    source = SOURCES[options.dataset]
    located = source.locate(options.data_dir.absolute())
    images = source_images(spark, options.dataset, located.shards)
    counts = plan_counts(images, options, num_classes=len(source.CLASS_NAMES))
    long_tail = keep_long_tail(images, counts, seed=options.rand_number)
    try:
        with new_directory(set_dir) as directory:
            _write(long_tail, directory, image_bytes=int(np.prod(source.IMAGE_SHAPE)), counts=counts)
            _describe(spark, directory, options, located.origin, counts).write(directory)
    except FileExistsError:
        read_manifest(set_dir)  # somebody else prepared the same set meanwhile
    except OSError as error:
        raise UserError(f"cannot write {set_dir}: {error.strerror}; free it or choose another --data_dir") from None
    return set_dir


def plan_counts(images: DataFrame, options: DataOptions, *, num_classes: int) -> LongTail:
    """Sizes of the parts, checked against what the source has."""
    found = {row[0]: row[1] for row in with_class_counts(images).collect()}
    available = [found.get(label, 0) for label in range(num_classes)]
    labelled = labelled_counts(
        num_classes, imb_type=options.imb_type, imb_factor=options.imb_factor, n_max=options.n_max
    )
    unlabeled = [0] * num_classes
    if options.imb_factor_unlabel is not None:
        unlabeled = unlabeled_counts(
            labelled,
            imb_factor_unlabel=options.imb_factor_unlabel,
            unlabel_size_factor=options.unlabel_size_factor,
        )
    check_pool(
        available,
        labelled,
        unlabeled,
        dataset=options.dataset,
        imb_factor_unlabel=options.imb_factor_unlabel,
        unlabel_size_factor=options.unlabel_size_factor,
    )
    val = validation_counts(labelled, val_fraction=options.val_fraction)
    train = [all_labelled - held_out for all_labelled, held_out in zip(labelled, val, strict=True)]
    return LongTail(val=val, train=train, unlabeled=unlabeled)


def _write(long_tail: DataFrame, directory: Path, *, image_bytes: int, counts: LongTail) -> None:
    num_images = sum(counts.val) + sum(counts.train) + sum(counts.unlabeled)
    files_per_split = math.ceil(max(num_images, 1) * image_bytes / TARGET_FILE_BYTES)
    (
        # By a hash of the id, so the content of each file is the same on every cluster.
        long_tail.repartition(len(SPLITS) * files_per_split, SPLIT, F.pmod(F.hash(ID), F.lit(files_per_split)))
        .sortWithinPartitions(SPLIT, ID)
        .write.partitionBy(SPLIT)
        .option("compression", "lz4_raw")
        .option("parquet.block.size", ROW_GROUP_BYTES)
        # Images hardly repeat: a dictionary would only cost memory.
        .option(f"parquet.enable.dictionary#{IMAGE}", "false")
        .parquet(str(directory / ROWS_DIRECTORY))
    )


def _describe(spark: SparkSession, directory: Path, options: DataOptions, origin: str, planned: LongTail) -> Manifest:
    """The manifest, from what is on disk and not from what was meant to be."""
    source = SOURCES[options.dataset]
    written = read_prepared(spark, directory)
    counts = {split: [0] * len(source.CLASS_NAMES) for split in SPLITS}
    for split, class_id, count in with_split_counts(written).collect():
        counts[split][class_id] = count
    expected = {VAL: planned.val, TRAIN: planned.train, UNLABELED: planned.unlabeled}
    assert all(counts[split] == list(sizes) for split, sizes in expected.items()), (counts, expected)
    assert sum(counts[TEST]) > 0, "a source has a test split"
    return Manifest(
        schema_version=SCHEMA_VERSION,
        dataset=options.dataset,
        parameters=options.set_parameters(),
        class_names=source.CLASS_NAMES,
        image_shape=source.IMAGE_SHAPE,
        counts=counts,
        checksums={split: checksum for split, checksum in with_split_checksums(written).collect()},
        source=origin,
    )


if __name__ == "__main__":
    run_job("prepare", main, sys.argv[1:])
