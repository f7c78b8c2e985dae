"""Lists of images as editors, spreadsheets and programs write them: a line per image with its path and its label.

- Fields are separated by tabs, commas, semicolons or spaces, whichever puts an image's path first in most lines; fields
  may be quoted as in CSV. With spaces, the label is what follows the last one.
- A first line that names the columns is a header; further columns are allowed then.
- The text is UTF-8 with or without a byte-order mark, UTF-16 with one, or else Latin-1. Any line ends will do. Empty
  lines are skipped; there are no comments.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.data.image_files import SUFFIXES, UNREAD_SUFFIXES

PATH_COLUMNS = frozenset(
    {"path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path", "name"}
)
LABEL_COLUMNS = frozenset({"label", "class", "class_name", "class_id", "category", "category_id", "target", "y"})
"""Columns of a header, in lower case; --image_column and --label_column name others."""

DEFAULT_COLUMNS = ("image", "label")
"""--image_column and --label_column if they are not given."""
_COLUMNS = (PATH_COLUMNS, LABEL_COLUMNS)
_DELIMITERS = ("\t", ",", ";", " ")
_LINES_TO_DECIDE = 1000
_IMAGE_SUFFIXES = SUFFIXES | UNREAD_SUFFIXES
_Row = tuple[int, list[str]]


class ListedImage(NamedTuple):
    """A line of a list: its number, the path and the label as they are written."""

    line: int
    path: str
    label: str


def read_list(file: Location, *, path_column: str, label_column: str) -> list[ListedImage]:
    """The images of a list. Raises UserError, with the line's number, if a line has another form."""
    text = _text(file)
    delimiter = _delimiter("".join(text.splitlines(keepends=True)[:_LINES_TO_DECIDE]), (path_column, label_column))
    try:
        rows = _rows(text, delimiter)
    except csv.Error as error:
        raise UserError(f"cannot read the list {file}: {error}") from None
    if rows:
        _check_named_columns(rows[0][1], file, (path_column, label_column))
    if rows and _is_header(rows[0][1], (path_column, label_column)):
        rows = _columns_of_rows(rows, file, (path_column, label_column))
    for line, row in rows:
        if len(row) != 2 or not all(row):
            raise UserError(
                f"{file}:{line} is '{' '.join(row)}': a path, a space and a label were expected, or a tab or a comma "
                f"in place of the space"
            )
    if not rows:
        raise UserError(f"the list {file} names no image")
    return [ListedImage(line, *row) for line, row in rows]


def _check_named_columns(first: Sequence[str], file: Location, given: tuple[str, str]) -> None:
    """Raise UserError if the user names a column and the first line has none of that name."""
    for name, default in zip(given, DEFAULT_COLUMNS, strict=True):
        if name != default and name not in first:
            raise UserError(
                f"the list {file} has no column {name!r} in its first line, which is '{' '.join(first):.200}': name "
                f"columns that it has, or none"
            )


def _columns_of_rows(rows: Sequence[_Row], file: Location, given: tuple[str, str]) -> list[_Row]:
    """Path and label of the rows behind a header. Raises UserError if a row has more fields than the header."""
    header = rows[0][1]
    columns = _header_columns(header, file, given)
    for line, row in rows[1:]:
        if any(row[len(header) :]):
            raise UserError(
                f"{file}:{line} has {len(row)} fields, its header {len(header)}: put a field that has the separator in "
                f"it between double quotes"
            )
    return [(line, [row[column] for column in columns if column < len(row)]) for line, row in rows[1:]]


def _text(file: Location) -> str:
    try:
        content = read_regular_file(file)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("latin-1")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {file}: {error}") from None


def _rows(text: str, delimiter: str) -> list[_Row]:
    """Number and fields of each line that is not empty. May raise csv.Error."""
    if delimiter == " ":
        lines = enumerate(re.split("\r\n|\r|\n", text), 1)
        return [(number, _unquoted(line.strip().rsplit(maxsplit=1))) for number, line in lines if line.strip()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows = ((reader.line_num, [field.strip() for field in row]) for row in reader)
    return [(number, row) for number, row in rows if any(row)]


def _unquoted(fields: list[str]) -> list[str]:
    return [field[1:-1] if len(field) > 1 and field[0] == field[-1] == '"' else field for field in fields]


def _delimiter(text: str, given: tuple[str, str]) -> str:
    """The delimiter that gives a header, else the most images; of equally good ones the first."""
    scores = {}
    for delimiter in _DELIMITERS:
        try:
            rows = _rows(text, delimiter)
        except csv.Error:
            continue
        is_header = bool(rows) and _is_header(rows[0][1], given)
        num_images = sum(len(row) == 2 and os.path.splitext(row[0])[1].lower() in _IMAGE_SUFFIXES for _, row in rows)
        scores[delimiter] = (is_header, num_images)
    # A space fits whatever has no image's name in it.
    return max(scores, key=scores.__getitem__) if any(map(any, scores.values())) else " "


def _is_header(row: Sequence[str], given: tuple[str, str]) -> bool:
    return all(_columns(row, known, name) for known, name in zip(_COLUMNS, given, strict=True))


def _header_columns(row: Sequence[str], file: Location, given: tuple[str, str]) -> list[int]:
    """The columns of path and label. Raises UserError if they are unclear."""
    found = [_columns(row, known, name) for known, name in zip(_COLUMNS, given, strict=True)]
    if any(len(columns) > 1 for columns in found):
        raise UserError(
            f"the list {file} has the columns {', '.join(row)}: name those of path and label with --image_column and "
            f"--label_column"
        )
    return [columns[0] for columns in found]


def _columns(row: Sequence[str], known: frozenset[str], given: str) -> list[int]:
    """Places of the column that the user names, else of all with a known name."""
    if given in row:
        return [place for place, name in enumerate(row) if name == given]
    return [place for place, name in enumerate(row) if name.lower() in known]
