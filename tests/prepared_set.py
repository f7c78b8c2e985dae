"""Prepared sets as `longtail prepare` lays them out, written without Spark."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.vocabulary import SPLITS
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
from longtail.data.manifest import Manifest

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


def write_manifest(
    set_dir: Path,
    counts: dict[str, list[int]],
    *,
    image_shape: tuple[int, int, int],
    dataset: str = "digits",
    encoding: str = RAW,
    num_classless: int = 0,
    channel_mean: Sequence[float] = (),
    channel_std: Sequence[float] = (),
) -> Manifest:
    (num_classes,) = {len(sizes) for sizes in counts.values()}
    manifest = Manifest(
        dataset=dataset,
        parameters={},
        class_names=[f"class {i}" for i in range(num_classes)],
        image_shape=image_shape,
        encoding=encoding,
        num_classless=num_classless,
        num_bad_images=0,
        channel_mean=list(channel_mean),
        channel_std=list(channel_std),
        duplicates=[],
        counts={**{split: [0] * num_classes for split in SPLITS}, **counts},
        checksums={},
        source="written by a test",
    )
    manifest.write(set_dir)
    return manifest
