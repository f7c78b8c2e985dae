"""The checksum of a split: a hash of its rows that depends neither on their order nor on their files.

Each row's SHA-256 is taken over its id, label and withheld label (three little-endian int64, NO_CLASS where null) and
the bytes of its image. The checksum is the sum of these numbers (little-endian) modulo 2^256, in hexadecimal. Unlike
an exclusive or, a sum changes if a row occurs twice more.
"""

import hashlib

import numpy as np
import pyarrow as pa

from longtail.conf.vocabulary import NO_CLASS
from longtail.data.byte_columns import rows_of_bytes
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL

CHECKED_COLUMNS = (ID, IMAGE, LABEL, HIDDEN_LABEL)
_MODULUS = 2**256


def rows_checksum(rows: pa.RecordBatch | pa.Table) -> int:
    """The sum over rows with CHECKED_COLUMNS; sums of parts of a split add up to that of the split."""
    if isinstance(rows, pa.Table):
        return sum(map(rows_checksum, rows.to_batches())) % _MODULUS
    numbers = [rows.column(ID), *(rows.column(name).fill_null(NO_CLASS) for name in (LABEL, HIDDEN_LABEL))]
    heads = np.stack([column.to_numpy(zero_copy_only=False).astype("<i8") for column in numbers], axis=1).tobytes()
    head_size = 8 * len(numbers)
    images = rows.column(IMAGE)
    contents = rows_of_bytes(images if not images.null_count else images.fill_null(b""))
    total = 0
    for row, content in enumerate(contents):
        digest = hashlib.sha256(heads[row * head_size : (row + 1) * head_size])
        digest.update(content)
        total += int.from_bytes(digest.digest(), "little")
    return total % _MODULUS


def as_text(checksum: int) -> str:
    """64 hexadecimal digits, as in the manifest."""
    return f"{checksum % _MODULUS:064x}"
