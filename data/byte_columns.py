"""Arrow columns of bytes from arrays, and arrays from such columns, without an object per row."""

import numpy as np
import pyarrow as pa


def rows_as_bytes(values: np.ndarray) -> pa.BinaryArray:
    """(N,) the bytes of each row of an array (N, ...), less than 2 GiB together."""
    size = values.itemsize * int(np.prod(values.shape[1:]))
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(
        pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    )


def lengths_of_bytes(column: pa.BinaryArray) -> np.ndarray:
    """(N,) the number of bytes of each row; no row is null. Of few rows, several times faster than pyarrow.compute."""
    return np.diff(_bounds(column))


def rows_of_bytes(column: pa.BinaryArray) -> list[memoryview]:
    """The bytes of each row, without a copy; no row is null."""
    bounds = _bounds(column).tolist()
    content = column.buffers()[2]
    view = memoryview(content if content is not None else b"")
    return [view[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def _bounds(column: pa.BinaryArray) -> np.ndarray:
    """(N + 1,) where each row begins in the buffer of all, and where the last one ends."""
    offset_type = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    return np.frombuffer(column.buffers()[1], offset_type)[column.offset : column.offset + len(column) + 1]
