"""Prepared sets as `longtail prepare` lays them out, written without Spark."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import SPLITS
from longtail.data.checksums import CHECKED_COLUMNS, as_text, rows_checksum
from longtail.data.contract import (
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    PREPARED_SCHEMA,
    RAW,
    SPLIT,
    split_directory,
)
from longtail.data.loader import read_columns, split_files
from longtail.data.manifest import FILE_NAME, OWN_CHECKSUM, Manifest, own_checksum, read_manifest

# The split is the name of the directory, so the files do not hold it.
ROW_SCHEMA = pa.schema([field for field in PREPARED_SCHEMA if field.name != SPLIT])


def image_rows(
    ids: Sequence[int],
    images: np.ndarray,
    *,
    labels: Sequence[int | None] | None = None,
    hidden_labels: Sequence[int | None] | None = None,
) -> pa.Table:
    """Rows for images (N, height, width, channels) uint8; without labels they are null."""
    columns = {
        ID: list(ids),
        IMAGE: [image.tobytes() for image in images],
        LABEL: [None] * len(ids) if labels is None else list(labels),
        HIDDEN_LABEL: [None] * len(ids) if hidden_labels is None else list(hidden_labels),
    }
    return pa.table(columns, schema=ROW_SCHEMA)


def write_split(
    set_dir: Path, split: str, rows: pa.Table, *, file_name: str = "part-0.parquet", row_group_size: int | None = None
) -> Path:
    """Write rows as one file of a split; pages carry checksums, as those that Spark writes do."""
    file = split_directory(set_dir, split) / file_name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        rows, file, row_group_size=row_group_size, compression="none", use_dictionary=False, write_page_checksum=True
    )
    return file


def checksums_of(set_dir: Path) -> dict[str, str]:
    """Of the rows that are written already, as the manifest has them."""
    splits = [split for split in SPLITS if Path(split_directory(set_dir, split)).exists()]
    return {
        split: as_text(rows_checksum(read_columns(split_files(set_dir, split), CHECKED_COLUMNS))) for split in splits
    }


def write_manifest(
    set_dir: Path,
    counts: dict[str, list[int]],
    *,
    image_shape: tuple[int, int, int],
    dataset: str = "digits",
    encoding: str = RAW,
    num_classless: int = 0,
    channel_mean: Sequence[float] | None = None,
    channel_std: Sequence[float] | None = None,
) -> Manifest:
    """Write a manifest for the rows that are there; a training learns them with --imb_factor_unlabel 1."""
    (num_classes,) = {len(sizes) for sizes in counts.values()}
    manifest = Manifest(
        dataset=dataset,
        parameters=PrepareOptions(dataset=dataset, imb_factor_unlabel=1).set_parameters(),
        class_names=[f"class {i}" for i in range(num_classes)],
        image_shape=image_shape,
        encoding=encoding,
        num_classless=num_classless,
        num_bad_images=0,
        channel_mean=list(channel_mean or [0.5] * image_shape[2]),
        channel_std=list(channel_std or [0.25] * image_shape[2]),
        duplicates=[],
        counts={**{split: [0] * num_classes for split in SPLITS}, **counts},
        checksums=checksums_of(set_dir),
        source="written by a test",
    )
    manifest.write(set_dir)
    return manifest


def change_manifest(set_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the fields of a manifest, which stays one that Longtail could have written."""
    file = set_dir / FILE_NAME
    values = json.loads(file.read_text())
    del values[OWN_CHECKSUM]
    change(values)
    file.write_text(json.dumps({**values, OWN_CHECKSUM: own_checksum(values)}))


def reorder_classes(set_dir: Path, order: Sequence[int]) -> None:
    """Give class order[i] the number i, as if its set had been prepared with the classes in this order."""
    manifest = read_manifest(set_dir)
    number = {old: new for new, old in enumerate(order)}
    for split in SPLITS:
        for file in sorted(Path(split_directory(set_dir, split)).glob("*.parquet")):
            rows = pq.read_table(file, partitioning=None)
            for name in (LABEL, HIDDEN_LABEL):
                renumbered = pa.array([None if label is None else number[label] for label in rows[name].to_pylist()])
                rows = rows.set_column(rows.column_names.index(name), name, renumbered.cast(pa.int32()))
            pq.write_table(rows, file, compression="none", use_dictionary=False, write_page_checksum=True)
            file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's, of the file as it was
    replace(
        manifest,
        class_names=[manifest.class_names[old] for old in order],
        counts={split: [sizes[old] for old in order] for split, sizes in manifest.counts.items()},
        checksums=checksums_of(set_dir),
    ).write(set_dir)
