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


def rows_of_bytes(column: pa.BinaryArray) -> list[memoryview]:
    """The bytes of each row, without a copy; no row is null."""
    offset_type = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    _, offsets, content = column.buffers()
    bounds = np.frombuffer(offsets, offset_type)[column.offset : column.offset + len(column) + 1].tolist()
    view = memoryview(content if content is not None else b"")
    return [view[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
