"""Delta Lake: a log beside the Parquet files of a table that lists the files of each version.

delta-rs writes and reads the log (conf/base/optional_packages.py), Spark the files.
"""

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.optional_packages import deltalake
from longtail.conf.base.stores import S3_SCHEMES, settings_of

LOG_DIRECTORY = "_delta_log"
DELTA_CONNECTORS = {"4.1": "io.delta:delta-spark_4.1_2.13:4.4.0", "4.2": "io.delta:delta-spark_4.2_2.13:4.4.0"}
"""Delta's own connector for Spark, by the versions of Spark that it is made for (the newest in November 2026)."""
_S3_OPTIONS = {
    "endpoint": "AWS_ENDPOINT_URL",
    "endpoint.region": "AWS_REGION",
    "access.key": "AWS_ACCESS_KEY_ID",
    "secret.key": "AWS_SECRET_ACCESS_KEY",
    "session.token": "AWS_SESSION_TOKEN",
}


def is_delta(table: Location) -> bool:
    """Whether a directory is a Delta table."""
    return (table / LOG_DIRECTORY).is_dir()


def delta_connector(table: Location, spark_version: str) -> str:
    """The Maven package by which a version of Spark can follow a table that grows.

    Raises UserError if there is none for it.
    """
    release = ".".join(spark_version.split(".")[:2])
    if release not in DELTA_CONNECTORS:
        raise UserError(
            f"{table} is a Delta table, which --stream does not follow with Spark {spark_version}: Delta's connector "
            f"for Spark, which that needs, is for Spark {' and '.join(DELTA_CONNECTORS)}. Leave --stream out, or let "
            f"images arrive as Parquet files or in a Kafka topic"
        )
    return DELTA_CONNECTORS[release]


def delta_files(table: Location) -> list[Location]:
    """The files of the table's newest version.

    Raises UserError if the log is damaged, or needs features beyond reading files (deletion vectors, column mapping).
    """
    package = deltalake()
    try:
        found = package.DeltaTable(str(table), storage_options=_storage_options(table))
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
    return [_named(unquote(name), table) for name in names]


def write_log(table: Location, *, partition_column: str | None = None) -> None:
    """Make the Parquet files in ``table``, or in ``table``/COLUMN=VALUE/, a Delta table; the files do not change.

    Raises UserError if delta-rs is not installed.
    """
    package = deltalake()
    partition = None
    if partition_column is not None:
        partition = package.Schema.from_arrow(pa.schema([pa.field(partition_column, pa.string())]))
    package.convert_to_deltalake(
        str(table),
        partition_by=partition,
        partition_strategy="hive",
        mode="ignore",
        storage_options=_storage_options(table),
    )


def _named(name: str, table: Location) -> Location:
    """A file of the log: its URL has the scheme that delta-rs uses, the table's may have another of the same store."""
    if isinstance(table, Path):
        return Path(name.removeprefix("file://"))
    return table / name.partition(f"{table.authority}{table.path}/")[2]


def _storage_options(table: Location) -> dict[str, str] | None:
    """The settings of a store by delta-rs's names."""
    if isinstance(table, Path) or table.scheme not in S3_SCHEMES:
        return None
    settings = settings_of(table.scheme, table.authority)
    options = {_S3_OPTIONS[name]: value for name, value in settings.items() if name in _S3_OPTIONS}
    return {"AWS_ALLOW_HTTP": str(not options.get("AWS_ENDPOINT_URL", "").startswith("https")).lower(), **options}
