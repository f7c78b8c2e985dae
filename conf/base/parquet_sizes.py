"""How much memory columns of a Parquet file take, before they are read.

A file of a few thousand bytes can hold pages that decompress to gigabytes, pages that say that they do, a value that
all rows repeat, or 2**31 rows. Sizes are taken from the file's description and from the headers of its pages, which
need not agree; of files in a store from the description alone.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

FREE_BYTES = 256 * 2**20
"""What any file may take."""
MOST_TIMES = 256
"""Memory by byte of a larger one: the most that LZ4 does, by which sets are prepared, and far more than images do."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "BYTE_ARRAY": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value by physical type; of texts and bytes, its offset."""
_DICTIONARY_PAGE = 2
_DEEPEST = 8
"""Structs within structs; a page header has three levels."""
_Bytes = bytes | memoryview | mmap.mmap


@dataclass(frozen=True)
class _Chunk:
    """A column of a row group: its bytes in the file and in memory, and those of its dictionary of texts or bytes."""

    stored: int
    plain: int
    num_values: int
    dictionary: int

    @property
    def at_most(self) -> int:
        """Bytes in memory, if all rows repeat all of the dictionary."""
        return self.plain + self.num_values * self.dictionary


def check_memory(
    parquet: pq.ParquetFile,
    columns: Sequence[str],
    *,
    file: Location | pa.Buffer,
    as_dictionaries: bool = False,
) -> None:
    """Raise ValueError if columns would take much more memory than they have bytes.

    file: where the open file is, or its content
    as_dictionaries: texts are not spelled out for each row
    """
    chunks = _chunks(parquet, columns, file, range(parquet.num_row_groups))
    _check(chunks, sum(chunk.plain if as_dictionaries else chunk.at_most for chunk in chunks))


def read_row_group(parquet: pq.ParquetFile, columns: Sequence[str], *, file: Location, group: int) -> pa.Table:
    """Columns of a row group.

    Raises ValueError if they take much more memory than they have bytes.
    """
    chunks = _chunks(parquet, columns, file, [group])
    if sum(chunk.at_most for chunk in chunks) <= _limit(chunks):
        return parquet.read_row_group(group, columns=list(columns))
    # Only rows that repeat large values take as much. Many programs put values that differ in a dictionary, too.
    at_once = rows_at_once(parquet, columns, file=file, group=group, most=2**20)
    batches, needed = [], 0
    for batch in parquet.iter_batches(at_once, [group], columns=list(columns)):
        needed += batch.nbytes
        _check(chunks, needed)
        batches.append(batch)
    return pa.Table.from_batches(batches)


def rows_at_once(parquet: pq.ParquetFile, columns: Sequence[str], *, file: Location, group: int, most: int) -> int:
    """How many rows of a row group to read together, at most ``most``: fewer if all could repeat a large value.

    Raises ValueError if one page is much larger than its bytes.
    """
    chunks = _chunks(parquet, columns, file, [group])
    _check(chunks, sum(chunk.plain for chunk in chunks))
    return max(1, min(most, FREE_BYTES // (1 + sum(chunk.dictionary for chunk in chunks))))


def check_texts(columns: Iterable[pa.ChunkedArray]) -> None:
    """Raise ValueError if texts that were read as dictionaries are too large once each row has its own."""
    needed = sum(
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
        for column in columns
        if pa.types.is_dictionary(column.type)
        for chunk in column.chunks
    )
    if needed > FREE_BYTES:
        raise ValueError(f"{needed} bytes of text, of at most {FREE_BYTES}")


def _check(chunks: Sequence[_Chunk], needed: int) -> None:
    if needed > _limit(chunks):
        stored = sum(chunk.stored for chunk in chunks)
        raise ValueError(f"{stored} bytes that would take {needed / 2**20:.1f} MiB of memory or more")


def _limit(chunks: Sequence[_Chunk]) -> int:
    return max(FREE_BYTES, MOST_TIMES * sum(chunk.stored for chunk in chunks))


def _chunks(
    parquet: pq.ParquetFile, columns: Sequence[str], file: Location | pa.Buffer, groups: Sequence[int]
) -> list[_Chunk]:
    wanted = {column.partition(".")[0] for column in columns}
    places = [i for i in range(parquet.metadata.num_columns) if parquet.schema.column(i).path.split(".")[0] in wanted]
    if isinstance(file, Path):
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return [_chunk(parquet, group, place, mapped) for group in groups for place in places]
    content = None if isinstance(file, StorePath) else memoryview(file).cast("B")
    return [_chunk(parquet, group, place, content) for group in groups for place in places]


def _chunk(parquet: pq.ParquetFile, group: int, place: int, content: _Bytes | None) -> _Chunk:
    """A chunk's sizes; content: of the file, if it is at hand."""
    described, column = parquet.metadata.row_group(group).column(place), parquet.schema.column(place)
    stored, plain, num_values = described.total_compressed_size, described.total_uncompressed_size, described.num_values
    dictionary = plain if described.has_dictionary_page else 0
    if content is not None:
        start = described.data_page_offset
        if described.has_dictionary_page and 0 < (described.dictionary_page_offset or 0) < start:
            start = described.dictionary_page_offset
        if min(start, stored, plain, num_values) < 0 or start + stored > len(content):
            raise ValueError(f"its column {described.path_in_schema} is not within the file")
        pages = list(_pages(content, start, start + stored)) if num_values else []  # none of an empty table
        plain = max(plain, sum(size for _, size in pages))
        dictionary = max((size for kind, size in pages if kind == _DICTIONARY_PAGE), default=0)
    width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS[column.physical_type]
    has_texts = column.physical_type == "BYTE_ARRAY"
    return _Chunk(stored, max(plain, num_values * width), num_values, dictionary if has_texts else 0)


def _pages(content: _Bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    """The kind of each page between two places, and the bytes that it says to have in memory."""
    while position < end:
        try:
            header, position = _struct(content, position)
        except IndexError:
            raise ValueError("a page has no header") from None
        kind, plain, stored = (header.get(number, -1) for number in (1, 2, 3))
        if min(kind, plain, stored) < 0:
            raise ValueError("a page has no size")
        yield kind, plain
        position += stored


def _struct(content: _Bytes, position: int, depth: int = 0) -> tuple[dict[int, int], int]:
    """The integers of a struct by number of their field, and the place behind it (Thrift's compact protocol)."""
    if depth > _DEEPEST:
        raise ValueError("a page header is nested too deeply")
    found, number = {}, 0
    while (first := content[position]) != 0:
        position += 1
        if first >> 4:
            number += first >> 4
        else:
            number, position = _integer(content, position)
        kind = first & 15
        if kind in (4, 5, 6):
            found[number], position = _integer(content, position)
        else:
            position = _behind(content, position, kind, depth)
    return found, position + 1


def _behind(content: _Bytes, position: int, kind: int, depth: int) -> int:
    """The place behind a value that is not looked at: a truth value, a byte, a double, bytes or a struct."""
    if kind in (1, 2):
        return position
    if kind in (3, 7):
        return position + (1 if kind == 3 else 8)
    if kind == 8:
        length, position = _varint(content, position)
        return position + length
    if kind == 12:
        return _struct(content, position, depth + 1)[1]
    raise ValueError(f"a page header has a field of type {kind}")


def _integer(content: _Bytes, position: int) -> tuple[int, int]:
    value, position = _varint(content, position)
    return (value >> 1) ^ -(value & 1), position


def _varint(content: _Bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a page header has a number without an end")
