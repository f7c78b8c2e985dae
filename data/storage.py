"""Tables on the local disk or in a store (conf/base/locations.py).

A table is a Parquet file, a directory of such files at any depth, or a Delta table (data/delta.py). Names that begin
with a dot or an underscore are skipped, as Spark does.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_for_reading, open_regular_file
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import check_is_finished
from longtail.data.delta import delta_files, is_delta

_PARQUET_MAGIC = b"PAR1"


def table_files(table: Location) -> list[Location]:
    """The Parquet files of a table, sorted by name. Raises UserError if there are none."""
    check_is_finished(table)
    files = _files(table)
    if not files:
        raise UserError(f"{table} has no Parquet file: run the job that writes it again, or name another table")
    return files


def is_table(path: Location) -> bool:
    """Whether ``path`` is a Parquet file, a Delta table or a directory with Parquet files."""
    if path.is_file():
        with open_for_reading(path) as file:
            return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    return is_delta(path) or bool(_visible(path, _parquet_files(path)))


def open_parquet(file: Location, *, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a file, which the caller closes; each page is checked against its CRC.

    dictionaries: columns whose texts are read as dictionaries, so that one that rows repeat is in memory once

    Raises UserError if it is damaged.
    """
    texts = list(dictionaries) or None
    try:
        if isinstance(file, Path):
            open_regular_file(file).close()
            parquet = pq.ParquetFile(file, page_checksum_verification=True, memory_map=True, read_dictionary=texts)
        else:
            parquet = pq.ParquetFile(file.open("rb"), page_checksum_verification=True, read_dictionary=texts)
        _ = parquet.schema_arrow.names  # raises if one is no text
        return parquet
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise damaged(file, error) from None


def read_table(file: Location) -> pa.Table:
    """All of a file. Raises UserError as open_parquet does."""
    with open_parquet(file) as parquet:
        try:
            return parquet.read()
        except (OSError, pa.ArrowException) as error:
            raise damaged(file, error) from None


def check_columns(parquet: pq.ParquetFile, columns: Iterable[str], *, file: Location) -> None:
    """Raise UserError if an open file lacks a column, or if the names of its columns are damaged."""
    try:
        names = parquet.schema_arrow.names
    except UnicodeDecodeError as error:
        raise damaged(file, error) from None
    if missing := sorted(set(columns) - set(names)):
        raise UserError(f"{file} has no column {', '.join(missing)}: run the job that writes it again")


def damaged(file: Location, error: BaseException) -> UserError:
    """The error to raise for a file that cannot be read."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{file} is damaged ({reason}): run the job that writes it again")


def _files(table: Location) -> list[Location]:
    if table.is_file():
        return [table]
    return _visible(table, delta_files(table) if is_delta(table) else _parquet_files(table))


def _parquet_files(directory: Location) -> Iterable[Location]:
    """Those below the directory; tables have such names too, as pseudo_labels.parquet."""
    return (file for file in directory.rglob("*.parquet") if not (isinstance(file, Path) and file.is_dir()))


def _visible(table: Location, files: Iterable[Location]) -> list[Location]:
    base = str(table).rstrip("/")
    return sorted((file for file in files if not _is_hidden(str(file).removeprefix(base))), key=str)


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(relative).parts if part != "/")
