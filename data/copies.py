"""Copies of images between the parts of a set, in words.

A row describes the copies of one kind, as Manifest.copies and a run's result.json have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from longtail.conf.vocabulary import UNLABELED, VAL
from longtail.data.manifest import Manifest


def unlabeled_copy_lines(manifest: Manifest) -> list[str]:
    """What was left out of the unlabeled part, or kept in it, as copies of test, validation or labelled images."""
    return [f"{_line(row)}{_examples(row)}" for row in manifest.copies if row["split"] == UNLABELED]


def labelled_copy_lines(manifest: Manifest) -> list[str]:
    """Labelled images that are copies of test images, and images of more than one class."""
    return [*_labelled(manifest), *_conflicts(manifest)]


def copy_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All copies without names of files, which a report or a model card makes public."""
    return [f"{_line(row)}{_of_another_class(row)}" for row in rows]


def _labelled(manifest: Manifest) -> Iterator[str]:
    for row in manifest.copies:
        if row["split"] != UNLABELED:
            yield f"{_line(row)}{_examples(row)}{_of_another_class(row)}"


def _conflicts(manifest: Manifest) -> Iterator[str]:
    if manifest.num_label_conflicts:
        examples = "; ".join(manifest.label_conflicts)
        yield f"{manifest.num_label_conflicts} images have more than one class, such as {examples}"


def _line(row: Mapping[str, Any]) -> str:
    of = "validation" if row["of"] == VAL else row["of"]
    copies = f"{row['num_images']} {row['kind']} copies of {of} images"
    if row["split"] != UNLABELED:
        return f"the part {row['split']} has {copies}"
    return f"{'left out of' if row['left_out'] else 'kept in'} the unlabeled part: {copies}"


def _examples(row: Mapping[str, Any]) -> str:
    return ", such as " + "; ".join(f"{name} of {original}" for name, original in row["examples"])


def _of_another_class(row: Mapping[str, Any]) -> str:
    is_told = row["split"] != UNLABELED and row["num_conflicts"]
    return f" ({row['num_conflicts']} of another class)" if is_told else ""
