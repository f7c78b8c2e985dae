"""Computes and writes class-distribution statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.names import check_class_names
from longtail.conf.options.data import DataOptions
from longtail.conf.options.prepare import StatsOptions
from longtail.conf.vocabulary import NO_CLASS, SPLITS, TRAIN
from longtail.data.contract import HIDDEN_LABEL, IMAGE, LABEL, SPLIT
from longtail.data.longtail import shot_groups
from longtail.data.manifest import read_manifest
from longtail.data.statistics import class_distribution, effective_number
from longtail.data.storage import open_parquet, table_files
from longtail.spark_jobs.cluster.cancellation import Call, run_to_their_end
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.display.class_plot import draw_head_to_tail
from longtail.spark_jobs.display.label_statistics import print_image_statistics, print_label_statistics
from longtail.spark_jobs.frames.image_statistics import (
    Channels,
    Sums,
    channel_statistics,
    collect_sums,
    sums_of_split,
    with_duplicates,
    with_pixel_sums,
)
from longtail.spark_jobs.frames.label_statistics import LabelCounts, count_labels
from longtail.spark_jobs.frames.reading import read_parquet_or_delta, read_prepared

STATISTICS_DIRECTORY = "statistics"


def stats(spark: SparkSession, options: DataOptions, *, set_dir: Location) -> Location:
    """Compute, print and write the statistics of a prepared set; return the directory of the results."""
    manifest = read_manifest(set_dir)
    prepared = read_prepared(spark, set_dir)
    pixel_sums = with_pixel_sums(prepared, image_shape=manifest.image_shape, encoding=manifest.encoding)
    labels = Call(lambda: count_labels(prepared))
    pixels = Call(lambda: collect_sums(pixel_sums))
    copies = Call(lambda: with_duplicates(prepared, F.xxhash64(IMAGE)).collect())
    with Activity(spark, "counting the labels, reading the pixels"):
        run_to_their_end(spark, labels, pixels, copies)
    counted, sums, duplicates = labels.value, pixels.value, [row.asDict() for row in copies.value]
    counts = {split: [0] * manifest.num_classes for split in SPLITS}
    for split, class_id, count in counted.class_counts:
        if class_id != NO_CLASS:
            counts[split][class_id] = count
    output_dir = options.data_dir.absolute() / STATISTICS_DIRECTORY / set_dir.name
    _report_labels(counts, counted, manifest.class_names, sums, options, output_dir)
    channels = {split: channel_statistics(sums_of_split(sums, split)) for split in SPLITS}
    images = {"channels": {split: asdict(found) for split, found in channels.items()}, "duplicates": duplicates}
    write_json_atomically(output_dir / "images.json", images)
    print_image_statistics(channels[TRAIN].mean, channels[TRAIN].std, duplicates)
    return output_dir


def stats_of_labels(spark: SparkSession, options: StatsOptions, *, table: Location) -> Location:
    """The same for the labels in a table, without reading images; the classes are the labels that occur.

    Raises UserError if the column does not exist or holds neither integers nor strings, or if a label is missing.
    """
    rows = _label_rows(spark, table, options.label_column)
    with Activity(spark, "counting the labels"):
        counted = count_labels(rows)
    by_label = {label: count for _, label, count in counted.class_counts}
    if not by_label:
        raise UserError(f"{table} has no row: name another table with --labels")
    if missing := sum(count for label, count in by_label.items() if str(label) == str(NO_CLASS)):
        raise UserError(f"{table} has {missing} rows whose {options.label_column} is null or {NO_CLASS}: remove them")
    names = sorted(by_label)
    check_class_names(map(str, names), where=table)
    counts = {TRAIN: [by_label[name] for name in names]}
    output_dir = options.data_dir.absolute() / STATISTICS_DIRECTORY / f"labels-{table.stem}"
    _report_labels(counts, counted, list(map(str, names)), {}, options, output_dir)
    return output_dir


def _label_rows(spark: SparkSession, table: Location, column: str) -> DataFrame:
    """The labels of a table as those of training images: split, label, hidden_label."""
    open_parquet(table_files(table)[0]).close()  # a file that is not Parquet is reported in one line
    rows = read_parquet_or_delta(spark, table)
    types = dict(rows.dtypes)
    if types.get(column) not in ("tinyint", "smallint", "int", "bigint", "string"):
        have = ", ".join(f"{name} ({type_[:20]})" for name, type_ in types.items())
        raise UserError(f"{table} has no column {column!r} of integers or strings: it has {have}; give --label_column")
    null = F.lit(None).cast(types[column])
    return rows.select(F.lit(TRAIN).alias(SPLIT), F.col(column).alias(LABEL), null.alias(HIDDEN_LABEL))


def _report_labels(
    counts: dict[str, list[int]],
    counted: LabelCounts,
    class_names: Sequence[str],
    sums: Mapping[tuple[str, int], Sums],
    options: DataOptions,
    output_dir: Location,
) -> None:
    """Write and print the statistics of labels. counts: by split, (num_classes,)"""
    groups = shot_groups(counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot)
    class_counts = _class_counts(counts, groups, sums, class_names)
    write_atomically(output_dir / "class_counts.parquet", lambda file: pq.write_table(class_counts, file))
    partitions = _partitions(counted)
    write_atomically(output_dir / "partitions.parquet", lambda file: pq.write_table(partitions, file))
    summary = {split: {**asdict(class_distribution(counts[split])), **_skew(counted, split)} for split in counts}
    write_json_atomically(output_dir / "summary.json", summary)
    shown = {split: sizes for split, sizes in counts.items() if sum(sizes)}
    draw_head_to_tail(shown, output_dir / "head_to_tail.png", title=output_dir.name)
    print_label_statistics(shown, groups, class_names, summary, title=output_dir.name)


def _partitions(counted: LabelCounts) -> pa.Table:
    """One row per split and partition."""
    names = [SPLIT, "partition", "num_images", "label_skew"]
    types = [pa.string(), pa.int32(), pa.int64(), pa.float64()]
    columns = zip(*counted.skew, strict=True) if counted.skew else [[]] * len(names)
    return pa.table([pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], names=names)


def _skew(counted: LabelCounts, split: str) -> dict[str, Any]:
    """Label skew over the partitions of a split, the mean weighted by images; None without images."""
    of_split = [(images, skew) for of, _, images, skew in counted.skew if of == split]
    total = sum(images for images, _ in of_split)
    return {
        "num_partitions": len(of_split),
        "mean_label_skew": sum(images * skew for images, skew in of_split) / total if total else None,
        "max_label_skew": max(skew for _, skew in of_split) if total else None,
    }


def _class_counts(
    counts: dict[str, list[int]],
    groups: Sequence[str],
    sums: Mapping[tuple[str, int], Sums],
    class_names: Sequence[str],
) -> pa.Table:
    """One row per split and class, also without images. Channel statistics are null where images were not read."""
    channels = {key: channel_statistics(class_sums) for key, class_sums in sums.items()}
    unread = Channels([], [])
    rows = []
    for split, sizes in counts.items():
        total = sum(sizes)
        for class_id, count in enumerate(sizes):
            statistics = channels.get((split, class_id), unread)
            rows.append(
                {
                    SPLIT: split,
                    "class_id": class_id,
                    "class_name": class_names[class_id],
                    "shot_group": groups[class_id],
                    "count": count,
                    "share": count / total if total else None,
                    "effective_number": effective_number(count),
                    "channel_mean": statistics.mean or None,
                    "channel_std": statistics.std or None,
                }
            )
    return pa.Table.from_pylist(rows)
