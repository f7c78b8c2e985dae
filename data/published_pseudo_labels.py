"""Pseudo-labels in a pickle of the published layout: a dict of extrapolated_targets, (N,) integers, and more.

In the published files N is the number of images of a source, such as SVHN's extra images, and the labels are in its
order: every image has one, whether or not a prepared set has it, so that a file serves for every --rand_number.

Images of any other origin have no order that two programs would agree on. A file for them also holds the ids of the
images and the checksum of the unlabeled part, and is matched by both.

All files that are written here hold the names of the classes, in the order of the labels. Those of others do not, and
are taken to be for the classes of the set.
"""

import json
import pickle
from collections.abc import Mapping

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import UNLABELED
from longtail.data.class_names import check_same_order
from longtail.data.manifest import Manifest
from longtail.data.unpickle import load_array_dict

LABELS = "extrapolated_targets"
IDS = "longtail_ids"
CHECKSUM = "longtail_unlabeled_checksum"
"""Of the unlabeled part (Manifest.checksums); the bytes of its text as (K,) uint8, as the reader takes arrays alone."""
CLASS_NAMES = "longtail_class_names"
"""Likewise: the bytes of a JSON list."""

_REMEDY = "write one with `longtail gen_pseudolabels --output_filename NAME.pickle`"


def write_published_pseudo_labels(
    file: Location, ids: np.ndarray, labels: np.ndarray, manifest: Manifest, *, prediction_model: str
) -> None:
    """Write labels (N,) of the images ids (N,): of every image of a published source, else of the unlabeled part."""
    order = np.argsort(ids)
    ids, labels = ids[order], labels[order].astype(np.int64)
    content = {
        LABELS: labels,
        "prediction_model": prediction_model,
        CLASS_NAMES: _bytes(json.dumps(manifest.class_names)),
    }
    if manifest.unlabeled_ids is None:
        content |= {IDS: ids, CHECKSUM: _checksum(manifest)}
    else:
        first_id, num_images = manifest.unlabeled_ids
        assert np.array_equal(ids, np.arange(first_id, first_id + num_images)), "every image of the source, once"
    write_atomically(file, lambda temporary: temporary.write_bytes(pickle.dumps(content)))


def load_published_pseudo_labels(file: Location, ids: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Labels (N,) int64 of the unlabeled images ``ids`` (N,) of a set.

    Raises UserError if the file cannot be read, or was written for another source, another set or other classes.
    """
    content = load_array_dict(file, [LABELS], optional=[IDS, CHECKSUM, CLASS_NAMES])
    labels = content[LABELS]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{file} has {LABELS} of {labels.dtype} {labels.shape}: integers (N,) were expected")
    if CLASS_NAMES in content:
        names = _class_names(content[CLASS_NAMES], file)
        check_same_order(names, manifest.class_names, file=file, of="this set", remedy=_REMEDY)
    if manifest.unlabeled_ids is not None:
        return _by_position(file, labels, ids, *manifest.unlabeled_ids)
    if not content.keys() >= {IDS, CHECKSUM, CLASS_NAMES}:
        raise UserError(
            f"{file} does not say which images and classes its labels belong to, and those of this set have no "
            f"published order: {_REMEDY}"
        )
    return _by_id(file, content, ids, manifest)


def _by_position(file: Location, labels: np.ndarray, ids: np.ndarray, first_id: int, num_images: int) -> np.ndarray:
    """The labels of images that are counted from first_id in their source."""
    if len(labels) != num_images:
        raise UserError(
            f"{file} has {len(labels)} pseudo-labels, the unlabeled images come from a source of {num_images}: the "
            f"published layout has one for each of them, in their order; {_REMEDY}"
        )
    indices = ids - first_id
    if len(ids) and not 0 <= indices.min() <= indices.max() < num_images:
        raise UserError(f"the unlabeled images of the set are not of their source: prepare it again to use {file}")
    return labels[indices].astype(np.int64)


def _by_id(file: Location, content: Mapping[str, np.ndarray], ids: np.ndarray, manifest: Manifest) -> np.ndarray:
    labels, own_ids = content[LABELS], content[IDS]
    if own_ids.shape != labels.shape or own_ids.dtype != np.int64 or len(np.unique(own_ids)) != len(own_ids):
        raise UserError(f"{file} has {len(labels)} pseudo-labels and not as many different ids: {_REMEDY}")
    if not np.array_equal(content[CHECKSUM], _checksum(manifest)) or not np.array_equal(np.sort(own_ids), np.sort(ids)):
        raise UserError(f"{file} labels other images than the unlabeled part of this set: {_REMEDY}")
    order = np.argsort(own_ids)
    return labels[order][np.searchsorted(own_ids[order], ids)].astype(np.int64)


def _class_names(content: np.ndarray, file: Location) -> list[str]:
    try:
        names = json.loads(content.tobytes()) if content.dtype == np.uint8 else None
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file} has damaged names of its classes: {_REMEDY}")
    return names


def _checksum(manifest: Manifest) -> np.ndarray:
    return _bytes(manifest.checksums.get(UNLABELED, ""))


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
