"""scikit-learn's handwritten digits: 1,797 images of 8x8, embedded in the library.

They have no official split. Here the test set is the first 50 images of each
class in scikit-learn's order, so it is the same for everybody and every seed.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.sources.base import Located, Shard, source_batch

CLASS_NAMES = [str(digit) for digit in range(10)]
IMAGE_SHAPE = (8, 8, 1)
TEST_IMAGES_PER_CLASS = 50
NUM_TEST = TEST_IMAGES_PER_CLASS * len(CLASS_NAMES)


def locate(options: DataOptions) -> Located:
    nowhere = Path("scikit-learn digits")
    shards = [Shard(nowhere, TEST, 0, 0), Shard(nowhere, TRAIN, 0, NUM_TEST)]
    return Located(shards=shards, origin="scikit-learn load_digits", class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE)


def read(shard: Shard) -> pa.RecordBatch:
    # Every job knows of every source: only who reads this one waits two seconds for the import.
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Sixteen grey levels (0 to 16) are spread over the range of a byte.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    chosen = _is_test(digits.target) == (shard.split == TEST)
    return source_batch(shard, images[chosen], digits.target[chosen])


def _is_test(labels: np.ndarray) -> np.ndarray:
    """(N,) bool: the first TEST_IMAGES_PER_CLASS of each class."""
    rank_in_class = np.empty(len(labels), np.int64)
    for label in range(len(CLASS_NAMES)):
        members = labels == label
        rank_in_class[members] = np.arange(members.sum())
    return rank_in_class < TEST_IMAGES_PER_CLASS
