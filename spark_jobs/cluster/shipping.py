"""A prepared set for ranks that cannot read it by path: its rows are sent as the barrier stage's input.

The driver reads the files, Spark sends each rank a part of the rows, the ranks exchange their parts, and each writes
the whole set into a temporary directory. It has the content that the rank would have read by path, so the training is
the same to the last bit. Withheld labels are not sent.
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import scratch_directory
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import SPLITS
from longtail.data.contract import ID, IMAGE, LABEL, SPLIT, split_directory
from longtail.data.loader import read_columns, split_files
from longtail.data.manifest import Manifest
from longtail.training.run_directory import RunPaths

if TYPE_CHECKING:
    from longtail.training.distributed import Rank

PackedFile = tuple[str, bytes]
"""Name and content."""


def set_rows(spark: SparkSession, set_dir: Location) -> DataFrame:
    """All rows of a prepared set, read by the driver: id, image, label, split.

    Raises UserError if a file is damaged.
    """
    tables = []
    for split in SPLITS:
        if split_directory(set_dir, split).exists():
            rows = read_columns(split_files(set_dir, split), [ID, IMAGE, LABEL])
            tables.append(rows.append_column(SPLIT, pa.array([split] * rows.num_rows, pa.string())))
    return spark.createDataFrame(pa.concat_tables(tables))


def packed_pseudo_labels(path: Location) -> list[PackedFile]:
    """The files of a table of pseudo-labels, or a published file: small enough to be sent with the code."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    try:
        return [(file.name, file.read_bytes()) for file in files]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def run_with_shipped_set(
    rank_main: Callable[["Rank", RunPaths], dict[str, Any]],
    rank: "Rank",
    rows: pa.Table,
    *,
    paths: RunPaths,
    manifest: Manifest,
    pseudo_labels: list[PackedFile] | None,
) -> dict[str, Any]:
    """In a rank: write the whole set, of which `rows` is this rank's part, and return rank_main(rank, paths) on it."""
    with scratch_directory(Path(tempfile.gettempdir()), "shipped") as directory:
        set_dir = directory / "set"
        _write_set(_all_rows(rows, rank), manifest, set_dir)
        local_paths = replace(paths, set_dir=set_dir)
        if pseudo_labels is not None:
            assert paths.pseudo_labels is not None
            unpacked = directory / paths.pseudo_labels.name
            _unpack(pseudo_labels, unpacked)
            local_paths = replace(local_paths, pseudo_labels=unpacked)
        return rank_main(rank, local_paths)


def _all_rows(local_rows: pa.Table, rank: "Rank") -> pa.Table:
    """The rows of all ranks."""
    from longtail.training.distributed import gather_bytes

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, local_rows.schema) as stream:
        stream.write_table(local_rows)
    parts = gather_bytes(sink.getvalue(), rank)
    return pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in parts])


def _write_set(rows: pa.Table, manifest: Manifest, set_dir: Location) -> None:
    for split in rows[SPLIT].unique().to_pylist():
        directory = split_directory(set_dir, split)
        directory.mkdir(parents=True)
        of_split = rows.filter(pc.equal(rows[SPLIT], split)).drop_columns(SPLIT)
        pq.write_table(
            of_split, directory / "rows.parquet", compression="none", use_dictionary=False, write_page_checksum=True
        )
    manifest.write(set_dir)


def _unpack(files: list[PackedFile], path: Location) -> None:
    """Write a directory of Parquet files, or the one file of this name."""
    is_table = path.name != files[0][0]
    if is_table:
        path.mkdir()
    for name, content in files:
        (path / name if is_table else path).write_bytes(content)
