"""Copies of images between the parts of a set, in words."""

from collections.abc import Iterator

from longtail.conf.vocabulary import TEST, UNLABELED
from longtail.data.manifest import Manifest


def unlabeled_copy_lines(manifest: Manifest) -> list[str]:
    """What was left out of the unlabeled part, or kept in it, as copies of test or labelled images."""
    return [
        f"{'left out of' if row['left_out'] else 'kept in'} the unlabeled part: {_copies(row)}"
        for row in manifest.copies
        if row["split"] == UNLABELED
    ]


def labelled_copy_lines(manifest: Manifest) -> list[str]:
    """Labelled images that are copies of test images, and images of more than one class."""
    return [*_labelled(manifest), *_conflicts(manifest)]


def _labelled(manifest: Manifest) -> Iterator[str]:
    for row in manifest.copies:
        if row["split"] != UNLABELED:
            other = f" ({row['num_conflicts']} of another class)" if row["num_conflicts"] else ""
            yield f"the part {row['split']} has {_copies(row)}{other}"


def _conflicts(manifest: Manifest) -> Iterator[str]:
    if manifest.num_label_conflicts:
        examples = "; ".join(manifest.label_conflicts)
        yield f"{manifest.num_label_conflicts} images have more than one class, such as {examples}"


def _copies(row: dict) -> str:
    of = "test" if row["of"] == TEST else "labelled"
    examples = "; ".join(f"{name} of {original}" for name, original in row["examples"])
    return f"{row['num_images']} {row['kind']} copies of {of} images, such as {examples}"
