"""A selection of unlabeled images in the layout of ti_80M_selected.pickle.

The file is a dict of data, (N, 32, 32, 3) uint8, and extrapolated_targets, (N,) integers, the class that a classifier
predicted for each image. The published sets shape their unlabeled part by these predictions, so that they become the
withheld labels here, although they are not the true classes. The 80 Million Tiny Images, of which the published file is
a part, were withdrawn by their authors in 2020; nothing here downloads them.
"""

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import UNLABELED_FIRST_ID
from longtail.data.local_copies import local_copy
from longtail.data.sources.base import Located, Shard, check_labels, source_batch
from longtail.data.unpickle import load_array_dict


def locate(options: DataOptions, base: Located) -> Located:
    path = options.unlabeled_location()
    images, labels = _arrays(path)
    if images.shape[1:] != base.image_shape:
        raise UserError(
            f"{path} has images of shape {images.shape[1:]}, those of {options.dataset} are of {base.image_shape}"
        )
    check_labels(labels, num_classes=len(base.class_names), path=path)
    return Located(
        shards=[Shard(path, UNLABELED, 0, UNLABELED_FIRST_ID)],
        origin=f"{path.name}, withheld labels extrapolated",
        class_names=base.class_names,
        image_shape=base.image_shape,
        head_to_tail=base.head_to_tail,
    )


def read(shard: Shard) -> pa.RecordBatch:
    return source_batch(shard, *_arrays(shard.path))


def _arrays(path: Location) -> tuple[np.ndarray, np.ndarray]:
    content = load_array_dict(local_copy(path), ["data", "extrapolated_targets"])
    images, labels = content["data"], content["extrapolated_targets"]
    if images.dtype != np.uint8 or images.ndim != 4 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path} has data of {images.dtype} {images.shape} and extrapolated_targets of {labels.dtype} "
            f"{labels.shape}: uint8 (N, height, width, channels) and integers (N,) were expected"
        )
    return images, labels
