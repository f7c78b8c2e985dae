"""Class-distribution statistics in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from longtail.conf.vocabulary import TRAIN
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent

MAX_CLASSES_SHOWN = 100
"""A longer table is for programs to read."""


def print_label_statistics(
    counts: dict[str, list[int]],
    groups: Sequence[str],
    class_names: Sequence[str],
    summary: dict[str, dict[str, Any]],
    *,
    title: str,
) -> None:
    """counts: of the splits that have images"""
    terminal = console()
    if len(class_names) > MAX_CLASSES_SHOWN:
        terminal.print(f"{title}: {len(class_names)} classes, each in class_counts.parquet", soft_wrap=True)
    else:
        table = Table(title=title, title_justify="left")
        for heading in ("class", "shots", *counts, "train share %"):
            table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
        for class_id, name in enumerate(class_names):
            sizes = [str(of_split[class_id]) for of_split in counts.values()]
            table.add_row(name, groups[class_id], *sizes, percent(counts[TRAIN][class_id] / sum(counts[TRAIN])))
        terminal.print(table)
    for split in counts:
        found = summary[split]
        rho = "-" if found["rho"] is None else f"{found['rho']:.2f}"
        line = (
            f"{split}: {found['num_images']} images, rho {rho}, "
            f"normalised entropy {found['normalised_entropy']:.3f}, Gini {found['gini']:.3f}"
        )
        if found["num_partitions"] > 1:
            mean, largest = found["mean_label_skew"], found["max_label_skew"]
            line += f", label skew of {found['num_partitions']} partitions {mean:.3f} (largest {largest:.3f})"
        terminal.print(line, soft_wrap=True)


def print_image_statistics(
    mean: Sequence[float], std: Sequence[float], duplicates: Sequence[Mapping[str, Any]]
) -> None:
    """mean, std: of the training images, per channel; duplicates: see duplicate_lines"""
    terminal = console()
    means, stds = (", ".join(f"{value:.4f}" for value in values) for values in (mean, std))
    terminal.print(f"train, channel mean {means}, standard deviation {stds}", soft_wrap=True)
    for line in duplicate_lines(duplicates):
        terminal.print(line, soft_wrap=True)


def duplicate_lines(duplicates: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of with_duplicates in words."""
    return [
        f"exact duplicates {'across' if '+' in row['splits'] else 'within'} {row['splits']}: "
        f"{row['num_contents']} images, {row['num_images']} rows"
        for row in duplicates
    ]
