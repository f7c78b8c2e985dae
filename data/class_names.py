"""Classes are matched by their names: the one place where the classes of two files are compared."""

from collections.abc import Sequence

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import with_examples


def class_order(found: Sequence[str], wanted: Sequence[str], *, file: Location, of: Location | str) -> list[int] | None:
    """For each wanted class its index in ``found``; None if both are the same names in the same order.

    file, of: where the names were found, and where the wanted ones are from, for messages

    Raises UserError if the names are not the same.
    """
    if list(found) == list(wanted):
        return None
    missing, new = _without(wanted, found), _without(found, wanted)
    if missing or new:
        differences = [f"it lacks {with_examples(missing)}"] if missing else []
        differences += [f"has {with_examples(new)} instead"] if new else []
        raise UserError(
            f"{file} is for other classes than {of}: {' and '.join(differences)}; take one that was made for these "
            f"classes, or give them back their names"
        )
    index = {name: position for position, name in enumerate(found)}
    if len(index) < len(found) or len(wanted) != len(found):
        raise UserError(f"{file} or {of} has two classes of the same name: give each class a name of its own")
    return [index[name] for name in wanted]


def check_same_order(
    found: Sequence[str], wanted: Sequence[str], *, file: Location, of: Location | str, remedy: str
) -> None:
    """Raise UserError unless both are the same names in the same order, for uses that cannot reorder them.

    remedy: clause for the message about the order
    """
    if (order := class_order(found, wanted, file=file, of=of)) is not None:
        first = next(position for position, index in enumerate(order) if position != index)
        raise UserError(
            f"{file} has the classes of {of} in another order (class {first} is {found[first]!r} there and "
            f"{wanted[first]!r} here): {remedy}"
        )


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [name for name in names if name not in known]
