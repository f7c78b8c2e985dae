"""Tables of pseudo-labels: Parquet files with damaged bytes, and whole ones of other columns and types."""

import io
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.data.contract import PSEUDO_LABEL_SCHEMA
from longtail.data.pseudo_label_table import load_probabilities, load_pseudo_labels, load_round
from tests.fuzz.mutation import damaged

_ROWS = pa.table(
    {"id": [5, 2, 9], "pseudo_label": [0, 1, 1], "confidence": [0.5, 0.75, 1.0],
     "probabilities": [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], "round": [1, 1, 1]},
    schema=PSEUDO_LABEL_SCHEMA,
)  # fmt: skip
_COLUMNS = [
    pa.array([1, None, 2]), pa.array(["a", "b", "c"]), pa.array([[1], [], None]), pa.array([2**62, -1, 0]),
    pa.array([0.5, float("nan"), float("inf")]), pa.array([[0.5], [0.5, 0.5], []]), pa.array([None] * 3),
    pa.array([[["x"]]] * 3), pa.array([True, False, True]), pa.array([b"\xff"] * 3), pa.array([1, 1, 1]),
]  # fmt: skip


def _written(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


_SEED = _written(_ROWS)


def generate(random: Random) -> bytes:
    if random.random() < 0.5:
        return damaged(_SEED, random)
    table = _ROWS.slice(0, random.choice((0, 1, 3, 3, 3)))
    for index in random.sample(range(table.num_columns), random.randrange(1, 3)):
        if random.random() < 0.2 and table.num_columns > index:
            table = table.remove_column(index)
        elif table.num_columns > index:
            column = random.choice(_COLUMNS).slice(0, table.num_rows)
            table = table.set_column(index, table.column_names[index], column)
    return _written(table)


def read(content: bytes, directory: Path) -> None:
    file = directory / "table.parquet"
    file.write_bytes(content)
    for columns in (load_pseudo_labels(file), (load_probabilities(file),)):
        for column in columns:
            column.sum()
    load_round(file)
