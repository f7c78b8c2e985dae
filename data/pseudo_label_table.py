"""Pseudo-labels: the table that gen_pseudolabels writes."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import UNLABELED
from longtail.data.class_names import check_same_order
from longtail.data.contract import CONFIDENCE, ID, PROBABILITIES, PSEUDO_LABEL, PSEUDO_LABEL_SCHEMA, ROUND
from longtail.data.loader import read_columns
from longtail.data.manifest import Manifest
from longtail.data.storage import is_table, open_parquet, table_files

FORMAT_VERSION = 1
FORMAT_VERSION_KEY = "longtail.format_version"
"""Where the version is: a key of the id column's metadata."""

CLASS_NAMES_KEY = "longtail.class_names"
"""Likewise: the names of the classes, in the order of the labels."""
IMAGES_KEY = "longtail.images"
"""Likewise: the checksum of the unlabeled part that was labelled (Manifest.checksums)."""

# Spark keeps the metadata of columns under this key of a Parquet file.
_SPARK_SCHEMA_KEY = b"org.apache.spark.sql.parquet.row.metadata"


def load_pseudo_labels(table: Location) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (N,) int64, pseudo-labels (N,) int64 and confidences (N,) float32 of a table, sorted by id.

    Raises UserError if a label is negative or a confidence not in [0, 1].
    """
    rows = _read(table, [ID, PSEUDO_LABEL, CONFIDENCE]).sort_by(ID)
    labels = rows.column(PSEUDO_LABEL).to_numpy().astype(np.int64)
    confidences = rows.column(CONFIDENCE).to_numpy()
    if (labels < 0).any() or not ((confidences >= 0) & (confidences <= 1)).all():
        raise UserError(f"{table} has a negative label, or a confidence that is not from 0 to 1: write it again")
    return rows.column(ID).to_numpy(), labels, confidences


def has_probabilities(table: Location) -> bool:
    """Whether it was written with the probabilities of all classes."""
    with open_parquet(table_files(table)[0]) as parquet:
        return PROBABILITIES in parquet.schema_arrow.names


def load_probabilities(table: Location) -> np.ndarray:
    """Probabilities (N, C) float32 in a table, in the order of load_pseudo_labels.

    Raises UserError if it has none, if rows have different numbers of classes, or a probability is not in [0, 1].
    """
    if not has_probabilities(table):
        raise UserError(
            f"{table} has no probabilities, which --pseudo_label_type soft needs: write it again with "
            f"`longtail gen_pseudolabels --probabilities`"
        )
    column = _read(table, [ID, PROBABILITIES]).sort_by(ID).column(PROBABILITIES).combine_chunks()
    lengths = np.unique(np.diff(column.offsets.to_numpy()))
    if len(lengths) != 1 or lengths[0] == 0:
        raise UserError(f"{table} has probabilities of {lengths.tolist()[:5]} classes: write it again")
    values = column.flatten().to_numpy(zero_copy_only=False)  # null becomes NaN
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"{table} has a probability that is not from 0 to 1: write it again")
    return values.reshape(-1, lengths[0])


def load_round(table: Location) -> int:
    """The round of self-training that a table is of. Raises UserError if it is empty or of several rounds."""
    rounds = _read(table, [ROUND]).column(ROUND).unique().to_pylist()
    if len(rounds) != 1:
        raise UserError(f"{table} has pseudo-labels of the rounds {sorted(rounds)}, not of one: write it again")
    return rounds[0]


def check_table_fits(table: Location, manifest: Manifest, *, set_dir: Location) -> None:
    """Raise UserError if a table was written for other classes, or for another unlabeled part, than a set's.

    A file in the published layout and a table that another program wrote say nothing of either.
    """
    if table.is_file() and not is_table(table):
        return
    remedy = "run `longtail gen_pseudolabels` for it"
    # Each file on its own: one of another table may have been copied among them.
    for file in table_files(table):
        with open_parquet(file) as parquet:
            recorded = _id_metadata(parquet, file)
        if CLASS_NAMES_KEY in recorded:
            check_same_order(recorded[CLASS_NAMES_KEY], manifest.class_names, file=file, of=set_dir, remedy=remedy)
        if recorded.get(IMAGES_KEY, manifest.checksums.get(UNLABELED)) != manifest.checksums.get(UNLABELED):
            raise UserError(f"{file} labels other images than the unlabeled part of {set_dir}: {remedy}")


def _read(table: Location, columns: list[str]) -> pa.Table:
    files = table_files(table)
    with open_parquet(files[0]) as parquet:
        version = _id_metadata(parquet, files[0]).get(FORMAT_VERSION_KEY, 1)  # 1: a table that another program wrote
    check_format_version(version, newest=FORMAT_VERSION, file=table, remedy="run `longtail gen_pseudolabels` again")
    rows = read_columns(files, columns)
    try:
        # No other types, numbers that do not fit, or nulls.
        return rows.cast(pa.schema([PSEUDO_LABEL_SCHEMA.field(name) for name in rows.column_names]))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(
            f"{table} is not a table of pseudo-labels ({' '.join(str(error).split())[:200]}): run "
            f"`longtail gen_pseudolabels` again"
        ) from None


def _id_metadata(parquet: pq.ParquetFile, file: Location) -> dict[str, Any]:
    """The metadata of the id column; empty in a file that another program than Spark wrote."""
    metadata = parquet.schema_arrow.metadata or {}
    try:
        fields = json.loads(metadata.get(_SPARK_SCHEMA_KEY, b'{"fields": []}'))["fields"]
        return next((dict(field["metadata"]) for field in fields if field["name"] == ID), {})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{file} has damaged metadata of Spark's columns: run `longtail gen_pseudolabels` again"
        ) from None
