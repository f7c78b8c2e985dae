"""Images behind the numbers of a run, for notebooks and programs."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_text_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.vocabulary import HELD_OUT_SPLITS, TEST, VAL
from longtail.data.kept_predictions import is_kept
from longtail.spark_jobs.steps.run_images import run_gallery
from longtail.streaming.dashboard.gallery import (
    CELL,
    CLASS,
    PSEUDO_LABELS,
    Gallery,
    WantedImages,
    gallery_document,
    title_of,
)

Class = str | int
"""A class by its name, or by its number."""


@dataclass(frozen=True)
class Images:
    """A gallery; the last line of a notebook's cell shows it."""

    gallery: Gallery

    @property
    def table(self) -> pd.DataFrame:
        """A row for each image: group, id in the prepared set, truth (None if unknown), prediction and confidence."""
        rows = [
            (group.title, image.key, image.truth, image.predicted, image.confidence)
            for group in self.gallery.groups
            for image in group.images
        ]
        return pd.DataFrame(rows, columns=["group", "id", "truth", "prediction", "confidence"])

    def save(self, file: str | Path) -> Path:
        """Write it as an HTML file, with all pictures in it."""
        head = '<!doctype html><meta charset="utf-8"><title>Images</title>'
        write_text_atomically(Path(file), head + self._repr_html_())
        return Path(file)

    def __repr__(self) -> str:
        num_images = sum(len(group.images) for group in self.gallery.groups)
        return f"Images({self.gallery.title!r}, {num_images} images)"

    def _repr_html_(self) -> str:
        return gallery_document([self.gallery])


def images_of_run(
    run_dir: Location,
    class_names: list[str],
    of: Class | None,
    *,
    truth: Class | None,
    prediction: Class | None,
    pseudo_labels: Class | None,
    split: str | None,
    most_shown: int,
) -> Images:
    """The images of a finished run; see Run.images."""
    given = [of is not None, truth is not None or prediction is not None, pseudo_labels is not None]
    if sum(given) != 1:
        raise UserError("name a class, truth= and prediction=, or pseudo_labels=: one of the three was expected")
    if split is not None and split not in HELD_OUT_SPLITS:
        raise UserError(f"split {split!r}: one of {', '.join(HELD_OUT_SPLITS)} was expected")
    kind = CLASS if of is not None else PSEUDO_LABELS if pseudo_labels is not None else CELL
    true, predicted = (
        tuple(range(len(class_names))) if one is None else (_number(one, class_names),)
        for one in ((truth, prediction) if kind == CELL else (of if kind == CLASS else pseudo_labels,) * 2)
    )
    names = ([class_names[number] for number in numbers] for numbers in (true, predicted))
    of_split = split or (TEST if is_kept(run_dir, TEST) else VAL)
    wanted = WantedImages(
        kind=kind, run=run_dir.name, split=of_split, truth=true, predicted=predicted, title=title_of(kind, *names)
    )
    return Images(run_gallery(run_dir, wanted, most_shown=most_shown))


def _number(named: Class, class_names: list[str]) -> int:
    if isinstance(named, str) and named in class_names:
        return class_names.index(named)
    if not isinstance(named, str) and 0 <= named < len(class_names):
        return int(named)
    hint = did_you_mean(named, class_names) if isinstance(named, str) else ""
    raise UserError(f"there is no class {named!r} among the {len(class_names)} of this run{hint}")
