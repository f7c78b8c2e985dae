"""A CSV file of class shares: the columns class_name and share, and others that are not read."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.names import class_name_of, with_examples
from longtail.conf.base.shown_text import one_line

CLASS_NAME, SHARE = "class_name", "share"


def read_class_shares(file: Path, class_names: Sequence[str]) -> list[float]:
    """(C,) shares that add up to 1, as shares_by_name(). Raises UserError also if the file cannot be read."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_regular_text(file).removeprefix("\ufeff"))))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read the class shares {file} ({error}): a CSV file was expected") from None
    if not rows or rows[0].get(CLASS_NAME) is None or rows[0].get(SHARE) is None:
        raise UserError(f"{file} has no columns {CLASS_NAME} and {SHARE}: name them in its first line, and fill them")
    found: dict[str, object] = {}
    for row in rows:
        name = class_name_of(row[CLASS_NAME] or "")
        if name in found:
            raise UserError(f"{file} has the class {one_line(name)!r} twice: remove one of its lines")
        found[name] = row[SHARE]
    return shares_by_name(found, class_names, where=file)


def shares_by_name(shares: Mapping[str, object], class_names: Sequence[str], *, where: object) -> list[float]:
    """(C,) shares that add up to 1, whatever the numbers add up to.

    shares: a number for each class, by its name; where: they come from, for messages

    Raises UserError unless there is a number from 0 on for each class, not all of them 0.
    """
    found = {class_name_of(name): _number(share, where, name) for name, share in shares.items()}
    numbers = {class_name_of(name): number for number, name in enumerate(class_names)}
    if unknown := [name for name in found if name not in numbers]:
        raise UserError(
            f"{where} has the class {one_line(unknown[0])!r}, the checkpoint has {with_examples(class_names)}: "
            f"classes are matched by name"
        )
    if missing := [name for name in numbers if name not in found]:
        raise UserError(f"{where} has no share of {with_examples(missing)}: give each class one, which may be 0")
    total = sum(found.values())
    if not 0 < total < math.inf:
        raise UserError(f"the shares in {where} add up to {total}: give some class a share above 0")
    return [found[name] / total for name in numbers]


def class_shares_text(class_names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """The text of such a file: a line for each class, with the columns (C,) of numbers; SHARE is among them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([CLASS_NAME, *columns])
    for number, name in enumerate(class_names):
        writer.writerow([name, *(f"{values[number]:.6g}" for values in columns.values())])
    return text.getvalue()


def _number(text: object, where: object, name: str) -> float:
    try:
        number = float(str(text))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where} has the share {one_line(str(text))!r} of {one_line(name)!r}: give a number from 0 on")
    return number
