"""A part of an array in a MATLAB file (version 5), without the rest of the array in memory.

scipy reads whole arrays. Arrays are in Fortran order, so that parts along the last axis are contiguous; a compressed
array must be read from its beginning, but the bytes before the part need not be kept. The layout is described in
MathWorks' "MAT-File Format", chapter 1.
"""

import struct
import zlib
from pathlib import Path
from typing import IO

HEADER_BYTES = 128
LITTLE_ENDIAN = b"IM"
UINT8, MATRIX, COMPRESSED = 2, 14, 15
CHUNK_BYTES = 2**20
MAX_DESCRIPTION_BYTES = 1024


def read_bytes_of(path: Path, name: str, *, first: int, num_bytes: int) -> bytes:
    """``num_bytes`` bytes of the uint8 array ``name``, from the offset ``first`` on.

    Raises OSError, EOFError, ValueError or zlib.error for a damaged file or another layout.
    """
    with path.open("rb") as file:
        if file.read(HEADER_BYTES)[-2:] != LITTLE_ENDIAN:
            raise ValueError("it is not a little-endian MATLAB file")
        while True:
            kind, size = struct.unpack("<II", _exactly(file, 8))
            end = file.tell() + size
            stream: IO[bytes] | _Inflated = file
            if kind == COMPRESSED:
                stream = _Inflated(file)
                kind, _ = struct.unpack("<II", _exactly(stream, 8))
            if kind != MATRIX:
                raise ValueError(f"it has an element of type {kind} where an array was expected")
            _element(stream)  # flags
            _element(stream)  # dimensions
            if _element(stream) == name.encode():
                kind, size = struct.unpack("<II", _exactly(stream, 8))
                if kind != UINT8 or size < first + num_bytes:
                    raise ValueError(f"{name} has {size} bytes of type {kind}")
                left = first
                while left:
                    left -= len(_exactly(stream, min(left, CHUNK_BYTES)))
                return _exactly(stream, num_bytes)
            file.seek(end)


def _element(stream: "IO[bytes] | _Inflated") -> bytes:
    """The content of a data element that describes an array; a small one is part of its tag."""
    tag = _exactly(stream, 8)
    kind, size = struct.unpack("<II", tag)
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    if size > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"the description of an array has {size} bytes")
    return _exactly(stream, size + -size % 8)[:size]


def _exactly(stream: "IO[bytes] | _Inflated", num_bytes: int) -> bytes:
    content = stream.read(num_bytes)
    if len(content) != num_bytes:
        raise EOFError(f"it ends {num_bytes - len(content)} bytes too early")
    return content


class _Inflated:
    """The decompressed content of ``file``, from its current position on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()

    def read(self, num_bytes: int) -> bytes:
        parts = bytearray()
        while len(parts) < num_bytes and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(CHUNK_BYTES)
            if not packed:
                break
            parts += self._inflate.decompress(packed, num_bytes - len(parts))
        return bytes(parts)
