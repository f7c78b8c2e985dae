"""Tables of the user's own images: Parquet files with damaged bytes, and whole ones of other columns and types."""

import io
import shutil
from functools import cache
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from longtail.conf.arguments import resolve_options
from longtail.conf.options.data import DataOptions
from longtail.data.sources import table
from longtail.data.sources.table_images import SIZE_COLUMNS
from tests.fuzz.mutation import damaged

_NUM_ROWS = 6


@cache
def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 200, 30)).save(file, "PNG")
    return file.getvalue()


def _written(columns: dict[str, pa.Array]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _images(random: Random) -> pa.Array:
    spark = {"height": 2, "width": 1, "nChannels": 3, "data": bytes(6)}
    values = random.choice(
        ([_png()], [{"bytes": _png()}, {"bytes": None}], [spark, {**spark, "height": -1}], [b"abcdef"])
    )
    column = pa.array([random.choice((*values, *values, None)) for _ in range(_NUM_ROWS)])
    return column.dictionary_encode() if random.random() < 0.1 and pa.types.is_binary(column.type) else column


def _labels(random: Random) -> pa.Array:
    if random.random() < 0.7:
        return pa.array([0, 5, 5, 0, 2**62, 0] if random.random() < 0.5 else ["a", "b", "b", "a", "a\u0301", "b"])
    values = random.choice((("a", "b", "c", ""), (0, 1, 2, 2**62), (-1, 0), (0.5, 1.0), (b"\xff", b"a"), (None, "a")))
    return pa.array([random.choice(values) for _ in range(_NUM_ROWS)])


def generate(random: Random) -> bytes:
    columns = {"image": _images(random), "label": _labels(random)}
    if random.random() < 0.3:
        sizes = random.choice(((1, 2, 3), (2**40, 2, 3), (-1, 0, 0), (None, 1, 1), ("1", "2", "3")))
        columns |= {
            name: pa.array([size] * _NUM_ROWS) for name, size in zip(SIZE_COLUMNS, sizes, strict=True)
        }  # fmt: skip
    content = _written(columns)
    return content if random.random() < 0.5 else damaged(content, random)


def read(content: bytes, directory: Path) -> None:
    # Some below a directory of labels.
    path = directory / ("table/label=cat/part.parquet" if len(content) % 5 == 0 else "table/part.parquet")
    shutil.rmtree(directory / "table", ignore_errors=True)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    given = {"dataset": "table", "path": directory / "table", "image_size": 8, "data_dir": directory / "data"}
    options = resolve_options(DataOptions, given | {"on_bad_image": "skip" if len(content) % 2 else "stop"})
    for shard in table.locate(options).shards:
        table.read(shard)
