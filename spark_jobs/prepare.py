"""Build a long-tailed Parquet data set.

    longtail prepare --dataset cifar10 --imb_type exp --imb_factor 0.01
    spark-submit spark_jobs/prepare.py --dataset cifar10 --imb_type exp --imb_factor 0.01

Reads the source in its published layout, chooses images class by class, and
writes DATA_DIR/prepared/NAME/: split=train, split=test, with --val_fraction
split=val, with --imb_factor_unlabel split=unlabeled, and a manifest. NAME
changes with every parameter; a set that is already there is used as it is,
unless it was made from files of your own that have changed since. --format delta
makes the rows a Delta table, also those of a set that is there.
"""

import errno
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import data_flags, parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory
from longtail.conf.base.optional_packages import deltalake
from longtail.conf.options.data import DataOptions, PrepareOptions
from longtail.conf.vocabulary import NO_CLASS, SPLITS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, IMAGE, ROWS_DIRECTORY, SCHEMA_VERSION, SPLIT
from longtail.data.delta import write_log
from longtail.data.longtail import (
    by_label,
    check_pool,
    irrelevant_count,
    labelled_counts,
    unlabeled_counts,
    validation_counts,
)
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.sources.base import Located, Source, UnlabeledSource, without_second_check
from longtail.data.sources.own_files import state_of_own_files
from longtail.data.sources.registry import irrelevant_source, source_of
from longtail.data.sources.unlabeled import unlabeled_source
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.frames.image_statistics import (
    channel_statistics,
    collect_sums,
    duplicate_lines,
    sums_of_split,
    with_duplicates,
    with_pixel_sums,
)
from longtail.spark_jobs.frames.images import (
    LongTail,
    as_irrelevant,
    keep_long_tail,
    read_prepared,
    source_images,
    with_bucket_counts,
    with_split_checksums,
    with_split_counts,
)

PREPARED_DIRECTORY = "prepared"
NO_ROOM = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
TARGET_FILE_BYTES = 128 * 1024**2
ROW_GROUP_BYTES = 16 * 1024**2


def main(argv: Sequence[str]) -> None:
    options = parse_options(PrepareOptions, argv, prog="longtail prepare")
    set_dir = prepare(spark_session("prepare", options), options, as_delta=options.format == "delta")
    flags = data_flags(options)
    print(f"prepared set: {set_dir}\nnext: longtail stats {flags}\n  or: longtail train {flags}")


def prepared_set_dir(options: DataOptions) -> Path:
    return options.data_dir.absolute() / PREPARED_DIRECTORY / options.set_name()


def prepare(spark: SparkSession, options: DataOptions, *, as_delta: bool = False) -> Path:
    """The directory of the prepared set, made if it is not there. Raises UserError for bad input.

    as_delta: make its rows a Delta table too
    """
    if as_delta:
        deltalake()  # or say that it is missing, before any work
    set_dir, source_state = prepared_set_dir(options), state_of_own_files(options)
    outdated = set_dir.exists()
    if outdated:
        if read_manifest(set_dir).source_state == source_state:
            if as_delta:
                write_log(set_dir / ROWS_DIRECTORY, partition_column=SPLIT)
            return set_dir
        print(f"the files that {set_dir.name} was prepared from have changed: it is prepared again")
    source = source_of(options)
    located = source.locate(options)
    sources = [_LocatedSource(source, located), *_unlabeled_sources(options, located)]
    images = _images(spark, sources)
    bucket_counts = with_bucket_counts(images, seed=options.rand_number).collect()
    found: Counter[tuple[str, int]] = Counter()
    for split, label, _, count in bucket_counts:
        found[split, label] += count
    if not any(split == TEST for split, _ in found):
        raise UserError(f"{options.dataset} has no test image left: mend the bad ones")
    counts = plan_counts(found, options, located)
    # To be counted, all of them were read, and images of the user's own decoded.
    checked = _images(spark, sources, is_checked=True)
    long_tail = keep_long_tail(checked, counts, bucket_counts, seed=options.rand_number)
    try:
        with new_directory(set_dir, replace=outdated) as directory:
            _write(long_tail, directory, located, counts)
            manifest = _describe(spark, directory, options, [source.located for source in sources], found, counts)
            replace(manifest, source_state=source_state).write(directory)
            if as_delta:
                write_log(directory / ROWS_DIRECTORY, partition_column=SPLIT)
    except FileExistsError:
        read_manifest(set_dir)  # somebody else prepared the same set meanwhile
    except OSError as error:
        raise UserError(f"cannot write {set_dir}: {error.strerror}; free it or choose another --data_dir") from None
    except Exception as error:
        # Spark tells of a full disk by the text of its own exceptions.
        reason = next((reason for reason in NO_ROOM if reason in str(error)), None)
        if reason is None:
            raise
        raise UserError(f"cannot write {set_dir}: {reason}; free some or choose another --data_dir") from None
    else:
        if manifest.num_bad_images:
            print(f"{manifest.num_bad_images} images that cannot be decoded, or are not there, were left out")
        for line in duplicate_lines([row for row in manifest.duplicates if "+" in row["splits"]]):
            print(line)
    return set_dir


@dataclass(frozen=True)
class _LocatedSource:
    """is_irrelevant: its training images become unlabeled ones of no class"""

    source: Source | UnlabeledSource
    located: Located
    is_irrelevant: bool = False


def _images(spark: SparkSession, sources: Sequence[_LocatedSource], *, is_checked: bool = False) -> DataFrame:
    """The images of all sources (SOURCE_SCHEMA); is_checked: they have been read before."""
    frames = []
    for of in sources:
        shards = without_second_check(of.located.shards) if is_checked else of.located.shards
        rows = source_images(spark, of.source, shards)
        frames.append(as_irrelevant(rows) if of.is_irrelevant else rows)
    return reduce(DataFrame.unionByName, frames)


def _unlabeled_sources(options: DataOptions, base: Located) -> Iterator[_LocatedSource]:
    """The sources that only the unlabeled part draws from."""
    if options.unlabeled is not None:
        source = unlabeled_source(options, base)
        yield _LocatedSource(source, source.locate(options, base))
    if options.irrelevant_dataset is not None:
        other = irrelevant_source(options)
        located = other.locate(options)
        if (located.image_shape, located.encoding) != (base.image_shape, base.encoding):
            raise UserError(
                f"--irrelevant_dataset {options.irrelevant_dataset} has {located.encoding} images of "
                f"{located.image_shape}, {options.dataset} {base.encoding} ones of {base.image_shape}: choose one alike"
            )
        yield _LocatedSource(other, located, is_irrelevant=True)


def plan_counts(found: Mapping[tuple[str, int], int], options: DataOptions, located: Located) -> LongTail:
    """Sizes of the parts, checked against what the sources have.

    found: images by split and label.
    """
    # Everything is from head to tail here, and by label in the end.
    labels = located.labels_head_to_tail
    available, extra = ([found.get((split, label), 0) for label in labels] for split in (TRAIN, UNLABELED))
    labelled = _labelled_counts(available, labels, options)
    unlabeled, classless = [0] * len(labels), 0
    pool = TRAIN if options.unlabeled is None else UNLABELED
    if options.imb_factor_unlabel is not None:
        unlabeled = unlabeled_counts(
            labelled,
            imb_factor_unlabel=options.imb_factor_unlabel,
            unlabel_size_factor=options.relevance * options.unlabel_size_factor,
        )
        classless = irrelevant_count(unlabeled, relevance=options.relevance)
    elif options.unlabeled is not None:
        unlabeled, classless = extra, found.get((UNLABELED, NO_CLASS), 0)
    check_pool(
        available,
        labelled,
        unlabeled,
        dataset=options.dataset,
        imb_factor_unlabel=options.imb_factor_unlabel,
        unlabel_size_factor=options.unlabel_size_factor,
        relevance=options.relevance,
        unlabeled_pool=None if pool == TRAIN else extra,
        labels=labels,
        labelled_option="--n_max" if options.counts is None else "--counts",
    )
    if classless > found.get((UNLABELED, NO_CLASS), 0):
        raise UserError(
            f"{options.irrelevant_dataset} has {found.get((UNLABELED, NO_CLASS), 0)} images, --relevance "
            f"{options.relevance:g} asks for {classless}: raise it, or lower --unlabel_size_factor"
        )
    val = validation_counts(labelled, val_fraction=options.val_fraction)
    train = [all_labelled - held_out for all_labelled, held_out in zip(labelled, val, strict=True)]
    return LongTail(
        val=by_label(labels, val),
        train=by_label(labels, train),
        unlabeled=by_label(labels, unlabeled),
        pool=pool,
        classless=classless,
    )


def _labelled_counts(available: Sequence[int], labels: Sequence[int], options: DataOptions) -> list[int]:
    """Labelled images of each class, from head to tail. Raises UserError if a class would have none."""
    if (sizes := options.class_sizes()) is not None:
        if len(sizes) != len(labels):
            raise UserError(f"--counts has {len(sizes)} numbers, {options.dataset} has {len(labels)} classes")
        if 0 in sizes:
            raise UserError(f"--counts leaves class {sizes.index(0)} without an image: every class needs one")
        return [sizes[label] for label in labels]
    if options.imb_type == "natural":
        if 0 in available:
            raise UserError(f"{options.dataset} has no training image of class {labels[available.index(0)]}")
        return list(available)
    return labelled_counts(len(labels), imb_type=options.imb_type, imb_factor=options.imb_factor, n_max=options.n_max)


def _write(long_tail: DataFrame, directory: Path, located: Located, counts: LongTail) -> None:
    num_images = sum(counts.val) + sum(counts.train) + sum(counts.unlabeled) + counts.classless
    # A file of the user's takes at most about as many bytes as its pixels.
    image_bytes = int(np.prod(located.image_shape))
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


def _describe(
    spark: SparkSession,
    directory: Path,
    options: DataOptions,
    sources: Sequence[Located],
    found: Mapping[tuple[str, int], int],
    planned: LongTail,
) -> Manifest:
    """The manifest, from what is on disk and not from what was meant to be."""
    base = sources[0]
    written = read_prepared(spark, directory)
    counts = {split: [0] * len(base.class_names) for split in SPLITS}
    num_classless = 0
    for split, class_id, count in with_split_counts(written).collect():
        if class_id == NO_CLASS:
            num_classless += count
        else:
            counts[split][class_id] = count
    expected = {VAL: planned.val, TRAIN: planned.train, UNLABELED: planned.unlabeled}
    assert all(counts[split] == list(sizes) for split, sizes in expected.items()), (counts, expected)
    assert num_classless == planned.classless, (num_classless, planned.classless)
    assert sum(counts[TEST]) > 0, "a source has a test split"
    train = written.where(written[SPLIT] == TRAIN)
    pixel_sums = collect_sums(with_pixel_sums(train, image_shape=base.image_shape, encoding=base.encoding))
    channels = channel_statistics(sums_of_split(pixel_sums, TRAIN))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        dataset=options.dataset,
        parameters=options.set_parameters(),
        class_names=list(base.class_names),
        image_shape=base.image_shape,
        encoding=base.encoding,
        counts=counts,
        num_classless=num_classless,
        num_bad_images=sum(_num_bad_images(source, found) for source in sources),
        checksums={split: checksum for split, checksum in with_split_checksums(written).collect()},
        channel_mean=channels.mean,
        channel_std=channels.std,
        duplicates=[row.asDict() for row in with_duplicates(written).collect()],
        source="; ".join(source.origin for source in sources),
    )


def _num_bad_images(source: Located, found: Mapping[tuple[str, int], int]) -> int:
    """Images that the source names and that did not become rows."""
    if source.num_images is None:
        return 0
    # A task may read training and test images at once; those of a source of unlabeled ones are apart.
    splits = {UNLABELED} if all(shard.split == UNLABELED for shard in source.shards) else {TRAIN, TEST}
    return source.num_images - sum(count for (split, _), count in found.items() if split in splits)


if __name__ == "__main__":
    run_job("prepare", main, sys.argv[1:])
