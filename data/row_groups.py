"""The row groups of a split's files: what is read at once, whether all of it is kept or none."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from longtail.data.contract import IMAGE
from longtail.data.storage import Place, damaged, open_parquet


@dataclass(frozen=True)
class RowGroup:
    """file, and the number of the row group in it; num_rows: how many rows it has"""

    file: Place
    number: int
    num_rows: int


def row_groups(files: Sequence[Place]) -> list[RowGroup]:
    """Those of all files, one after the other. Raises UserError if a file is damaged."""
    groups = []
    for file in files:
        with open_parquet(file) as parquet:
            for number in range(parquet.num_row_groups):
                groups.append(RowGroup(file, number, parquet.metadata.row_group(number).num_rows))
    return groups


def read_image_column(group: RowGroup) -> pa.Array:
    """The image column of a row group. Raises UserError if the file is damaged."""
    with open_parquet(group.file) as parquet:
        try:
            column = parquet.read_row_group(group.number, columns=[IMAGE]).column(IMAGE)
        except (OSError, pa.ArrowException) as error:
            raise damaged(group.file, error) from None
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
