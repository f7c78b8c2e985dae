"""The row groups of a split's files, the unit in which images are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from longtail.conf.base.locations import Location
from longtail.data.contract import IMAGE
from longtail.data.storage import check_columns, damaged, open_parquet


@dataclass(frozen=True)
class RowGroup:
    """A row group: its file, its index in the file, and its number of rows."""

    file: Location
    index: int
    num_rows: int


def row_groups(files: Sequence[Location]) -> list[RowGroup]:
    """The row groups of all files, file by file. Raises UserError if a file is damaged."""
    groups = []
    for file in files:
        with open_parquet(file) as parquet:
            sizes = [parquet.metadata.row_group(index).num_rows for index in range(parquet.num_row_groups)]
        groups += [RowGroup(file, index, num_rows) for index, num_rows in enumerate(sizes)]
    return groups


def read_image_column(group: RowGroup) -> pa.Array:
    """The image column of a row group. Raises UserError if the file is damaged."""
    column = read_columns_of_group(group, [IMAGE]).column(IMAGE)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def read_columns_of_group(group: RowGroup, columns: Sequence[str]) -> pa.Table:
    """Columns of a row group. Raises UserError if the file is damaged or lacks one."""
    with open_parquet(group.file) as parquet:
        check_columns(parquet, columns, file=group.file)
        try:
            return parquet.read_row_group(group.index, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise damaged(group.file, error) from None
