"""The rows of a prepared set: damaged Parquet files, and whole ones of other columns and types."""

import io
import json
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import split_directory
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.verification import verify_set
from tests.fuzz.mutation import damaged
from tests.tiny_set import write_tiny_set

_OTHERS = (
    lambda rows: pa.nulls(rows), lambda rows: pa.array([-1] * rows), lambda rows: pa.array(["x"] * rows),
    lambda rows: pa.array([b""] * rows), lambda rows: pa.array([b"x" * 65] * rows), lambda rows: pa.array([[1]] * rows),
    lambda rows: pa.array([2**62] * rows), lambda rows: pa.array([float("nan")] * rows),
)  # fmt: skip


@cache
def _set() -> TemporaryDirectory[str]:
    directory = TemporaryDirectory()
    write_tiny_set(Path(directory.name))
    return directory


def _file() -> Path:
    return next(Path(str(split_directory(Path(_set().name), TRAIN))).glob("*.parquet"))


@cache
def _seed() -> bytes:
    return _file().read_bytes()


def generate(random: Random) -> bytes:
    if random.random() < 0.5:
        return damaged(_seed(), random)
    rows = pq.read_table(io.BytesIO(_seed()))
    index = random.randrange(rows.num_columns)
    if random.random() < 0.2:
        rows = rows.remove_column(index)
    elif random.random() < 0.2:
        rows = rows.slice(random.randrange(3))
    else:
        rows = rows.set_column(index, rows.column_names[index], random.choice(_OTHERS)(rows.num_rows))
    file = io.BytesIO()
    pq.write_table(rows, file, row_group_size=random.choice((5, 1000)), write_page_checksum=random.random() < 0.8)
    return file.getvalue()


def read(content: bytes, directory: Path) -> None:
    _file().write_bytes(content)
    set_dir = Path(_set().name)
    manifest = read_manifest(set_dir)
    verify_set(set_dir, manifest)
    split = load_split(set_dir, TRAIN, manifest)
    assert json.dumps(split.ids.tolist()) and split.images.sum() > 0
