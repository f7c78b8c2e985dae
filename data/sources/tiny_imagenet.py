"""Tiny ImageNet's validation images: val/images/, with the class of each file in val/val_annotations.txt."""

from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location

ANNOTATIONS = Path("val", "val_annotations.txt")


def annotated_images(directory: Location, class_names: list[str]) -> list[tuple[str, int]]:
    """Name below ``directory`` and label of each image.

    A line of the annotations has name, class and further fields, separated by tabs. Raises UserError at any other.
    """
    file = directory / ANNOTATIONS
    labels = {name: label for label, name in enumerate(class_names)}
    images = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0]
        if class_name not in labels or Path(name).name != name:
            raise UserError(f"{file}:{number} is {line!r}: the name of an image, a tab and a class were expected")
        images.append(((ANNOTATIONS.parent / "images" / name).as_posix(), labels[class_name]))
    if not images:
        raise UserError(f"{file} names no image: get it again")
    return images
