"""Class-distribution statistics of a prepared set.

    longtail stats --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/stats.py --dataset cifar10 --imb_factor 0.01

Counts the rows on disk (one pass; another two look at the images), prints a
table, and writes
DATA_DIR/statistics/NAME/: class_counts.parquet (a row per split and class),
summary.json (a split as a whole), images.json (channel mean and standard
deviation, exact duplicates) and head_to_tail.png. Prepares the set if it is not
there.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich import get_console
from rich.table import Table

from conf.arguments import data_flags, parse_options
from conf.files import write_atomically, write_json_atomically
from conf.schema import DataOptions, StatsOptions
from data.contract import NO_CLASS, SPLIT, SPLITS, TRAIN
from data.longtail import shot_groups
from data.manifest import Manifest, read_manifest
from data.statistics import class_distribution, effective_number
from spark_jobs.cli import run_job
from spark_jobs.image_statistics import (
    Channels,
    Sums,
    channel_statistics,
    collect_sums,
    duplicate_lines,
    sums_of_split,
    with_duplicates,
    with_pixel_sums,
)
from spark_jobs.plots import draw_head_to_tail
from spark_jobs.prepare import prepare
from spark_jobs.session import spark_session
from spark_jobs.transforms import read_prepared, with_split_counts
from streaming.tables import percent

STATISTICS_DIRECTORY = "statistics"


def main(argv: Sequence[str]) -> None:
    options = parse_options(StatsOptions, argv, prog="longtail stats")
    spark = spark_session("stats", options)
    output_dir = stats(spark, options, set_dir=prepare(spark, options))
    print(f"statistics: {output_dir}\nnext: longtail train {data_flags(options)}")


def stats(spark: SparkSession, options: DataOptions, *, set_dir: Path) -> Path:
    """Count, print and write; the directory of the results."""
    manifest = read_manifest(set_dir)
    prepared = read_prepared(spark, set_dir)
    counts = {split: [0] * manifest.num_classes for split in SPLITS}
    for split, class_id, count in with_split_counts(prepared).collect():
        if class_id != NO_CLASS:
            counts[split][class_id] = count
    sums = collect_sums(with_pixel_sums(prepared, image_shape=manifest.image_shape, encoding=manifest.encoding))
    duplicates = [row.asDict() for row in with_duplicates(prepared).collect()]
    groups = shot_groups(counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot)
    output_dir = options.data_dir.absolute() / STATISTICS_DIRECTORY / set_dir.name
    class_counts = _class_counts(counts, groups, sums, manifest)
    write_atomically(output_dir / "class_counts.parquet", lambda file: pq.write_table(class_counts, file))
    summary = {split: asdict(class_distribution(counts[split])) for split in SPLITS}
    write_json_atomically(output_dir / "summary.json", summary)
    channels = {split: channel_statistics(sums_of_split(sums, split)) for split in SPLITS}
    images = {"channels": {split: asdict(found) for split, found in channels.items()}, "duplicates": duplicates}
    write_json_atomically(output_dir / "images.json", images)
    shown = {split: sizes for split, sizes in counts.items() if sum(sizes)}
    draw_head_to_tail(shown, output_dir / "head_to_tail.png", title=set_dir.name)
    _print(counts, groups, manifest, title=set_dir.name)
    _print_images(channels[TRAIN], duplicates)
    return output_dir


def _class_counts(
    counts: dict[str, list[int]], groups: Sequence[str], sums: Mapping[tuple[str, int], Sums], manifest: Manifest
) -> pa.Table:
    """A row per split and class; a class without images keeps its row."""
    channels = {key: channel_statistics(of_class) for key, of_class in sums.items()}
    rows = [
        {
            SPLIT: split,
            "class_id": class_id,
            "class_name": manifest.class_names[class_id],
            "shot_group": groups[class_id],
            "count": count,
            "share": count / sum(of_split) if sum(of_split) else None,
            "effective_number": effective_number(count),
            "channel_mean": channels[split, class_id].mean if count else None,
            "channel_std": channels[split, class_id].std if count else None,
        }
        for split, of_split in counts.items()
        for class_id, count in enumerate(of_split)
    ]
    return pa.Table.from_pylist(rows)


def _print(counts: dict[str, list[int]], groups: Sequence[str], manifest: Manifest, *, title: str) -> None:
    shown = [split for split in SPLITS if sum(counts[split])]
    table = Table(title=title, title_justify="left")
    for heading in ("class", "shots", *shown, "train share %"):
        table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
    for class_id, name in enumerate(manifest.class_names):
        sizes = [str(counts[split][class_id]) for split in shown]
        table.add_row(name, groups[class_id], *sizes, percent(counts[TRAIN][class_id] / sum(counts[TRAIN])))
    console = get_console()
    console.print(table)
    for split in shown:
        found = class_distribution(counts[split])
        rho = "-" if found.rho is None else f"{found.rho:.2f}"
        console.print(
            f"{split}: {found.num_images} images, rho {rho}, "
            f"normalised entropy {found.normalised_entropy:.3f}, Gini {found.gini:.3f}",
            soft_wrap=True,
        )


def _print_images(train: Channels, duplicates: Sequence[dict[str, Any]]) -> None:
    console = get_console()
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (train.mean, train.std))
    console.print(f"train, channel mean {mean}, standard deviation {std}", soft_wrap=True)
    for line in duplicate_lines(duplicates):
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    run_job("stats", main, sys.argv[1:])
