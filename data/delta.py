"""Delta Lake: a log beside the Parquet files of a table that says which of them belong to it.

delta-rs writes and reads the log (conf/base/optional_packages.py), Spark itself the files.
"""

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.optional_packages import deltalake

LOG_DIRECTORY = "_delta_log"


def is_delta(table: Path) -> bool:
    return (table / LOG_DIRECTORY).is_dir()


def delta_files(table: Path) -> list[Path]:
    """The files of the table's newest version.

    Raises UserError if the log is damaged, or asks more of a reader than to read files (deletion vectors, renamed
    columns).
    """
    package = deltalake()
    try:
        found = package.DeltaTable(str(table))
        names = found.file_uris()
        protocol = found.protocol()
    except package.exceptions.DeltaError as error:
        raise UserError(f"{table} has a Delta log that cannot be read ({error}): write the table again") from None
    if unknown := sorted(set(protocol.reader_features or ()) - {"timestampNtz"}):
        raise UserError(f"{table} uses the Delta features {', '.join(unknown)}, which are not read: write it without")
    if found.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise UserError(f"{table} maps the names of its Delta columns, which is not read: write it without")
    return [Path(unquote(name.removeprefix("file://"))) for name in names]


def write_log(table: Path, *, partition_column: str | None = None) -> None:
    """Make the Parquet files in ``table``, or in ``table``/COLUMN=VALUE/, a Delta table; they stay as they are.

    Raises UserError if delta-rs is not installed.
    """
    package = deltalake()
    partition = None
    if partition_column is not None:
        partition = package.Schema.from_arrow(pa.schema([pa.field(partition_column, pa.string())]))
    package.convert_to_deltalake(str(table), partition_by=partition, partition_strategy="hive", mode="ignore")
