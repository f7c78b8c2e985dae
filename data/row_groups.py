"""The row groups of a split's files, the unit in which images are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import read_row_group
from longtail.data.contract import IMAGE, PREPARED_SCHEMA
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
            rows = read_row_group(parquet, columns, file=group.file, group=group.index)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(group.file, error) from None
    return of_contract(rows, file=group.file)


def of_contract(rows: pa.Table, *, file: Location) -> pa.Table:
    """Rows of a prepared set with the types of the contract; nothing is copied that has them.

    Raises UserError if a column has values of another kind, or null where none may be.
    """
    fields = [PREPARED_SCHEMA.field(name) for name in rows.column_names]
    # Some programs write all bytes as large ones, which the readers take as they are.
    large = [pa.types.is_large_binary(column.type) for column in rows.columns]
    schema = pa.schema(
        [field.with_type(pa.large_binary()) if it else field for field, it in zip(fields, large, strict=True)]
    )
    try:
        return rows.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file} is not of a prepared set ({reason}): delete the set and run `longtail prepare` again"
        ) from None
