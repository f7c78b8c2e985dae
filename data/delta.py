"""Delta Lake: a log beside the Parquet files of a table that says which of them belong to it.

The connector that Delta publishes for Spark is built for Spark up to 4.2, so
the log is written and read by delta-rs (the package deltalake, an extra of
longtail's). Spark itself writes the files.
"""

import os
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from conf.errors import UserError

LOG_DIRECTORY = "_delta_log"


def is_delta(table: Path) -> bool:
    return (table / LOG_DIRECTORY).is_dir()


def delta_files(table: Path) -> list[Path]:
    """The files of the table's newest version.

    Raises UserError if the log is damaged, or asks more of a reader than to read files (deletion vectors, renamed
    columns).
    """
    deltalake = _deltalake()
    try:
        found = deltalake.DeltaTable(str(table))
        names = found.file_uris()
        protocol = found.protocol()
    except deltalake.exceptions.DeltaError as error:
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
    deltalake = _deltalake()
    partition = None
    if partition_column is not None:
        partition = deltalake.Schema.from_arrow(pa.schema([pa.field(partition_column, pa.string())]))
    deltalake.convert_to_deltalake(str(table), partition_by=partition, partition_strategy="hive", mode="ignore")


def require_delta() -> None:
    """Raises UserError if delta-rs is not installed."""
    _deltalake()


def _deltalake():
    # It says at every column of images that it keeps no statistics of it.
    os.environ.setdefault("RUST_LOG", "error")
    try:
        import deltalake
    except ImportError:
        raise UserError("Delta tables need the package deltalake: pip install 'longtail[delta]'") from None
    return deltalake
