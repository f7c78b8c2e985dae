"""The images behind a run's numbers: its predictions for each image, and the prepared set that has the images."""

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.conf.base.shown_text import one_line
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import CONFIDENCE, HIDDEN_LABEL, ID, IMAGE, LABEL, PREDICTED
from longtail.data.kept_predictions import (
    KEPT_DIRECTORY,
    LABELLING,
    STEPS,
    TRAINED_ON,
    KeptPredictions,
    of_classes,
    read_kept,
)
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.row_lookup import find_rows
from longtail.data.thumbnails import thumbnail
from longtail.streaming.dashboard.gallery import CELL, PSEUDO_LABELS, Gallery, ShownGroup, ShownImage, WantedImages

MOST_SHOWN = 18
"""Images of a group."""
_AT_ONCE = BoundedSemaphore(2)
"""Answers that are made at the same time: each reads row groups, which take memory."""
_SUREST, _LEAST_SURE = "descending", "ascending"
_ORDERS = {_SUREST: "The surest first", _LEAST_SURE: "The least sure first"}
_SOURCES = {
    STEPS: "Pseudo-labels that the steps of epoch {epoch} were confident enough to learn",
    LABELLING: "Pseudo-labels made with this run's checkpoint",
    TRAINED_ON: "Pseudo-labels that this run learns from",
}


def images_of_runs(runs_dir: Location | None) -> Callable[[WantedImages], Gallery]:
    """Gives the images of the runs in a directory; None if nobody knows where they are."""

    def images(wanted: WantedImages) -> Gallery:
        if runs_dir is None:
            problem = "Nobody has said where the runs of these tables are: start the page with --runs_dir."
            return Gallery(title=wanted.title, problem=problem)
        with _AT_ONCE:
            try:
                run_dir = runs_dir / wanted.run
                if isinstance(run_dir, Path) and run_dir.is_symlink():
                    raise UserError(f"{run_dir} is a link, which may lead anywhere: the images behind it are not shown")
                return run_gallery(run_dir, wanted)
            except (UserError, OSError) as error:
                return Gallery(title=wanted.title, problem=one_line(str(error)))

    return images


def run_gallery(run_dir: Location, wanted: WantedImages, *, most_shown: int = MOST_SHOWN) -> Gallery:
    """The wanted images, in groups of at most ``most_shown``.

    Raises UserError if the run has kept no predictions, or if its prepared set is not there.
    """
    evaluated = read_kept(run_dir, wanted.split) if wanted.kind != PSEUDO_LABELS else None
    labels = read_kept(run_dir, UNLABELED) if wanted.kind != CELL else None
    kept = evaluated or labels
    if kept is None:
        raise UserError(
            f"there are no predictions in {run_dir / KEPT_DIRECTORY}: the run is elsewhere, was not evaluated yet, has "
            f"no pseudo-labels, or was trained by an older version of Longtail"
        )
    set_dir, manifest = set_of(kept, run_dir)
    groups: list[_Group] = []
    if evaluated is not None:
        groups += (_of_cell if wanted.kind == CELL else _of_class)(evaluated, wanted)
    if labels is not None:
        groups += _of_pseudo_labels(labels, wanted, most_shown)
    groups = [group.first(most_shown) for group in groups if len(group.rows)]
    pictures = _pictures(groups, set_dir, manifest, split=wanted.split)
    shown = [
        ShownGroup(
            title=group.title, number=group.number, order=group.order,
            images=_images(group.rows, pictures[group.is_unlabeled], manifest),
        )
        for group in groups
    ]  # fmt: skip
    note = "" if evaluated is None else f"Predictions of the {wanted.split} set after epoch {evaluated.epoch}."
    return Gallery(title=wanted.title, note=note, groups=shown, problem=None if shown else "There is no such image.")


def set_of(kept: KeptPredictions, run_dir: Location) -> tuple[Location, Manifest]:
    """The prepared set that predictions are of, and its manifest.

    Raises UserError if it is not there, if it is another set now, or if it is in a store that only a file names.
    """
    try:
        set_dir = location(kept.set_dir)
    except ValueError as error:
        raise UserError(f"the run's prepared set has no valid name: {error}") from None
    # No store is asked because a file names it: only the one that the runs are in too.
    if _store_of(set_dir) not in {None, _store_of(run_dir)}:
        raise UserError(f"the run's prepared set, {set_dir}, is in a store that the runs are not in: it is not asked")
    manifest = read_manifest(set_dir)
    if manifest.identity != kept.set_identity:
        raise UserError(
            f"{set_dir} has other images now than those that the run was trained on: prepare that set again"
        )
    return set_dir, manifest


def _store_of(path: Location) -> tuple[str, str] | None:
    return None if isinstance(path, Path) else (path.scheme, path.authority)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Predictions that are shown together.

    number: how many there are; None if nobody knows
    is_unlabeled: whether they are of the unlabeled part
    """

    title: str
    rows: pa.Table
    order: str
    number: int | None
    is_unlabeled: bool = False

    def first(self, most: int) -> "_Group":
        return replace(self, rows=self.rows.slice(0, most))


def _evaluated(title: str, rows: pa.Table, order: str) -> _Group:
    return _Group(title=title, rows=_sorted(rows, order), order=f"{_ORDERS[order]}.", number=len(rows))


def _sorted(rows: pa.Table, order: str) -> pa.Table:
    return rows.sort_by([(CONFIDENCE, order), (ID, "ascending")])


def _of_cell(kept: KeptPredictions, wanted: WantedImages) -> list[_Group]:
    rows = of_classes(kept.rows, labels=wanted.truth, predicted=wanted.predicted)
    return [
        _evaluated("Mistakes", of_classes(rows, is_right=False), _SUREST),
        _evaluated("Recognised", of_classes(rows, is_right=True), _LEAST_SURE),
    ]


def _of_class(kept: KeptPredictions, wanted: WantedImages) -> list[_Group]:
    own = of_classes(kept.rows, labels=wanted.truth)
    others = of_classes(kept.rows, predicted=wanted.predicted, is_right=False)
    return [
        _evaluated("Taken for another class", of_classes(own, is_right=False), _SUREST),
        _evaluated("Other classes predicted as it", others, _SUREST),
        _evaluated("Recognised", of_classes(own, is_right=True), _LEAST_SURE),
    ]


def _of_pseudo_labels(kept: KeptPredictions, wanted: WantedImages, most_shown: int) -> list[_Group]:
    rows = of_classes(kept.rows, predicted=wanted.predicted)
    what = _SOURCES.get(kept.source, "Pseudo-labels").format(epoch=kept.epoch)
    most = np.bincount(rows[PREDICTED].to_numpy()).max(initial=0)  # of one class
    number = len(rows) if kept.per_class is None or most < 2 * kept.per_class else None
    orders = (_SUREST, _LEAST_SURE) if len(rows) > most_shown else (_SUREST,)
    return [
        _Group(title=what, rows=_sorted(rows, order), order=f"{_ORDERS[order]}.", number=number, is_unlabeled=True)
        for order in orders
    ]


def _pictures(
    groups: Iterable[_Group], set_dir: Location, manifest: Manifest, *, split: str
) -> dict[bool, dict[int, dict[str, Any]]]:
    """The rows of the images in all groups by id, of the unlabeled part (True) and of the split."""
    pictures = {}
    for is_unlabeled, part, truth in ((True, UNLABELED, HIDDEN_LABEL), (False, split, LABEL)):
        ids = {key for group in groups if group.is_unlabeled == is_unlabeled for key in group.rows[ID].to_pylist()}
        rows = find_rows(set_dir, part, ids, manifest, columns=[IMAGE, truth]) if ids else None
        found = [] if rows is None else rows.rename_columns([ID, IMAGE, LABEL]).to_pylist()
        pictures[is_unlabeled] = {row[ID]: row for row in found}
    return pictures


def _images(rows: pa.Table, pictures: dict[int, dict[str, Any]], manifest: Manifest) -> list[ShownImage]:
    shown = []
    for row in rows.to_pylist():
        picture = pictures.get(row[ID])
        if picture is None or not 0 <= row[PREDICTED] < manifest.num_classes:
            raise UserError(f"the predictions of the run are not of this set, which lacks image {row[ID]}: train again")
        media_type, content = thumbnail(picture[IMAGE], manifest)
        truth = picture[LABEL]
        shown.append(
            ShownImage(
                key=row[ID],
                source=f"data:{media_type};base64,{b64encode(content).decode()}",
                truth=manifest.class_names[truth] if truth is not None and 0 <= truth < manifest.num_classes else None,
                predicted=manifest.class_names[row[PREDICTED]],
                confidence=row[CONFIDENCE],
            )
        )
    return shown
