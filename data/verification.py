"""Verifies a prepared set against its manifest: once, when a job opens it.

Ids, labels and pixels are compared with the checksums. Reading and hashing cost a few per cent of a first epoch
(docs/speed.md). Sets of format version 1 have checksums that only Spark can compute: of them, ids and counts are
checked.
"""

import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import SPLITS
from longtail.data.checksums import CHECKED_COLUMNS, as_text, rows_checksum
from longtail.data.contract import IMAGE, split_directory
from longtail.data.loader import checked_rows, split_files
from longtail.data.manifest import CHECKSUM_VERSION, FILE_NAME, Manifest
from longtail.data.row_groups import RowGroup, read_columns_of_group, row_groups


def verify_set(set_dir: Location, manifest: Manifest) -> None:
    """Raise UserError unless the rows of a set are those that its manifest describes, each id once."""
    for split in SPLITS:
        directory = split_directory(set_dir, split)
        if not manifest.num_images(split) and any(directory.glob("*.parquet")):
            raise UserError(
                f"{directory} has images, its manifest has none of them: delete {set_dir} and run `longtail prepare` "
                f"again"
            )
    ids = [_verified_ids(set_dir, split, manifest) for split in SPLITS if manifest.num_images(split)]
    every_id, occurrences = np.unique(np.concatenate(ids), return_counts=True)
    if (occurrences > 1).any():
        raise UserError(
            f"{set_dir} has {(occurrences > 1).sum()} ids of more than one image, such as "
            f"{every_id[occurrences.argmax()]}: delete it and run `longtail prepare` again"
        )


def check_parameters(
    manifest: Manifest, described: Mapping[str, Any], *, set_dir: Location, given: Collection[str] = (), remedy: str
) -> None:
    """Raise UserError if options describe another set than a manifest does.

    described: the options of the set (DataOptions.set_parameters); given: those that the user gives
    remedy: clause for the message
    """
    there = manifest.parameters
    names = [*there, *(name for name in described if name not in there and name in given)]
    if differing := [name for name in names if described.get(name) != there.get(name)]:
        differences = ", ".join(f"{name} {described.get(name)} (there {there.get(name)})" for name in differing)
        raise UserError(f"{set_dir} is another set than the options describe: {differences}; {remedy}")


def _verified_ids(set_dir: Location, split: str, manifest: Manifest) -> np.ndarray:
    """The ids (N,) of a split, whose rows are those of the manifest."""
    groups = row_groups(split_files(set_dir, split))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        parts = list(threads.map(_row_group, groups))
    ids, _ = checked_rows(pa.concat_tables(rows for rows, _ in parts), set_dir, split, manifest)
    checksum = as_text(sum(part for _, part in parts))
    if manifest.format_version >= CHECKSUM_VERSION and checksum != manifest.checksums.get(split):
        raise UserError(
            f"{split_directory(set_dir, split)} has other ids, labels or pixels than {set_dir / FILE_NAME} was "
            f"written for: delete {set_dir} and run `longtail prepare` again"
        )
    return ids


def _row_group(group: RowGroup) -> tuple[pa.Table, int]:
    """A row group's columns but the images, and its checksum."""
    rows = read_columns_of_group(group, CHECKED_COLUMNS)
    return rows.drop_columns(IMAGE), rows_checksum(rows)
