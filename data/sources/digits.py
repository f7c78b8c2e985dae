"""The handwritten digits of scikit-learn: 1,797 images of 8x8, a file of the library.

They have no official split. Here the test set is the first 50 images of each class in scikit-learn's order, for every
seed.
"""

from importlib.util import find_spec
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
    no_file = Path("scikit-learn digits")
    shards = [Shard(no_file, TEST, 0, 0), Shard(no_file, TRAIN, 0, NUM_TEST)]
    return Located(shards=shards, origin="scikit-learn load_digits", class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE)


def read(shard: Shard) -> pa.RecordBatch:
    rows = np.loadtxt(_file(), delimiter=",")  # (1797, 65): pixels row by row, and the label
    labels = rows[:, -1].astype(np.int64)
    # Grey levels 0 to 16, scaled to the range of a byte.
    images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
    chosen = _is_test(labels) == (shard.split == TEST)
    return source_batch(shard, images[chosen], labels[chosen])


def _file() -> Path:
    """What load_digits reads. Found without the import of scikit-learn, which takes each process two seconds."""
    library = find_spec("sklearn")
    assert library is not None and library.origin is not None, "scikit-learn is a requirement of this package"
    return Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _is_test(labels: np.ndarray) -> np.ndarray:
    """(N,) bool: the first TEST_IMAGES_PER_CLASS of each class."""
    rank_in_class = np.empty(len(labels), np.int64)
    for label in range(len(CLASS_NAMES)):
        members = labels == label
        rank_in_class[members] = np.arange(members.sum())
    return rank_in_class < TEST_IMAGES_PER_CLASS
