"""Delta Lake: a log beside the Parquet files of a table that lists the files of each version.

delta-rs writes and reads the log (conf/base/optional_packages.py), Spark the files.
"""

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.optional_packages import deltalake

LOG_DIRECTORY = "_delta_log"


def is_delta(table: Path) -> bool:
    """Whether a directory is a Delta table."""
    return (table / LOG_DIRECTORY).is_dir()


def delta_files(table: Path) -> list[Path]:
    """The files of the table's newest version.

    Raises UserError if the log is damaged, or needs features beyond reading files (deletion vectors, column mapping).
    """
    package = deltalake()
    try:
        found = package.DeltaTable(str(table))
        names = found.file_uris()
        protocol = found.protocol()
    except package.exceptions.DeltaError as error:
        raise UserError(f"{table} has a Delta log that cannot be read ({error}): write the table again") from None
    if unknown := sorted(set(protocol.reader_features or ()) - {"timestampNtz"}):
        raise UserError(
            f"{table} uses the Delta features {', '.join(unknown)}, which are not supported: write it without"
        )
    if found.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise UserError(f"{table} has a Delta column mapping, which is not supported: write it without one")
    return [Path(unquote(name.removeprefix("file://"))) for name in names]


def write_log(table: Path, *, partition_column: str | None = None) -> None:
    """Make the Parquet files in ``table``, or in ``table``/COLUMN=VALUE/, a Delta table; the files do not change.

    Raises UserError if delta-rs is not installed.
    """
    package = deltalake()
    partition = None
    if partition_column is not None:
        partition = package.Schema.from_arrow(pa.schema([pa.field(partition_column, pa.string())]))
    package.convert_to_deltalake(str(table), partition_by=partition, partition_strategy="hive", mode="ignore")
