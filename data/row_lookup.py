"""Finds rows of a prepared set by id: of all images, only the row groups that may have them are read.

Rows are sorted by id within a file, so that the smallest and the largest id of a row group, which the file's footer
has, say whether it may have an image.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.data.contract import ID, PREPARED_SCHEMA
from longtail.data.loader import split_files
from longtail.data.manifest import Manifest
from longtail.data.row_groups import RowGroup, read_columns_of_group
from longtail.data.storage import open_parquet

_SETS_REMEMBERED = 16
_IdRange = tuple[int, int] | None
"""Smallest and largest id; None if the file does not say."""


def find_rows(
    set_dir: Location, split: str, ids: Collection[int], manifest: Manifest, *, columns: Sequence[str]
) -> pa.Table:
    """The id and these columns of the rows with these ids, in no order; an id that the split does not have is left out.

    Raises UserError if a file is missing or damaged.
    """
    try:
        return _find_rows(set_dir, split, ids, manifest, columns)
    except (UserError, OSError):
        # Another process may have prepared the same set anew, in files of other names.
        _groups.cache_clear()
        return _find_rows(set_dir, split, ids, manifest, columns)


def _find_rows(
    set_dir: Location, split: str, ids: Collection[int], manifest: Manifest, columns: Sequence[str]
) -> pa.Table:
    wanted = np.unique(np.fromiter(ids, np.int64))
    found = [pa.schema([PREPARED_SCHEMA.field(name) for name in (ID, *columns)]).empty_table()]
    for group, bounds in _groups(set_dir, split, manifest.identity):
        if not len(wanted):
            break
        here = wanted if bounds is None else wanted[(wanted >= bounds[0]) & (wanted <= bounds[1])]
        if not len(here):
            continue
        group_ids = read_columns_of_group(group, [ID])[ID]
        rows = np.flatnonzero(pc.is_in(group_ids, pa.array(here)).to_numpy())
        if len(rows):
            found.append(read_columns_of_group(group, [ID, *columns]).take(pa.array(rows)))
            wanted = np.setdiff1d(wanted, group_ids.to_numpy()[rows])
    return pa.concat_tables(found, promote_options="permissive")


@lru_cache(maxsize=_SETS_REMEMBERED)
def _groups(set_dir: Location, split: str, identity: str) -> tuple[tuple[RowGroup, _IdRange], ...]:
    """The row groups of a split, and which ids each may have. identity: of the set, which may change in its place"""
    return tuple(_read_groups(split_files(set_dir, split)))


def _read_groups(files: Sequence[Location]) -> Iterator[tuple[RowGroup, _IdRange]]:
    for file in files:
        with open_parquet(file) as parquet:
            names = parquet.schema_arrow.names
            place = names.index(ID) if ID in names else None
            for index in range(parquet.num_row_groups):
                described = parquet.metadata.row_group(index)
                statistics = None if place is None else described.column(place).statistics
                bounds = None if statistics is None or not statistics.has_min_max else (statistics.min, statistics.max)
                yield RowGroup(file, index, described.num_rows), bounds
