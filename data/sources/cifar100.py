"""CIFAR-100 from the official files: cifar-100-python/ or cifar-100-python.tar.gz in --data_dir, or downloaded.

An image has two labels: one of 100 fine classes (here) and one of 20 coarse classes (cifar100_coarse.py). The archive
and each file in it are verified before they are read.
"""

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.sources.base import Located, Shard, check_labels, source_batch
from longtail.data.sources.cifar_files import IMAGE_SHAPE, images_and_labels, read_file
from longtail.data.sources.download import download

CLASS_NAMES = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
]  # fmt: skip

DIRECTORY = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
NUM_TRAIN = 50_000
_ARCHIVE_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
# Of the files in it there is a published MD5 alone.
_MD5 = {TRAIN: "16019d7e3df5f24257cddd939b257f8d", TEST: "f0ef6b0ae62326f3e7ffdfab6717acfc"}
# Files are named after the splits.
_FILE = {TRAIN: "train", TEST: "test"}


def locate(options: DataOptions) -> Located:
    return locate_files(options.data_dir.absolute(), class_names=CLASS_NAMES)


def read(shard: Shard) -> pa.RecordBatch:
    return read_labels(shard, label_key="fine_labels", num_classes=len(CLASS_NAMES))


def locate_files(data_dir: Location, *, class_names: list[str]) -> Located:
    """Find or download the files, which have the labels of both data sets. Raises UserError if neither is possible."""
    for path in (data_dir / DIRECTORY, data_dir / ARCHIVE):
        if path.exists():
            return _located(path, f"official files ({path.name})", class_names)
    try:
        download(URL, data_dir / ARCHIVE)
    except UserError as error:
        raise UserError(f"CIFAR-100 is not in {data_dir}, and {error}: put {ARCHIVE} into {data_dir}") from None
    return _located(data_dir / ARCHIVE, "official download", class_names)


def _located(path: Location, origin: str, class_names: list[str]) -> Located:
    shards = [Shard(path, TRAIN, 0, 0), Shard(path, TEST, 0, NUM_TRAIN)]
    return Located(shards=shards, origin=origin, class_names=class_names, image_shape=IMAGE_SHAPE)


def read_labels(shard: Shard, *, label_key: str, num_classes: int) -> pa.RecordBatch:
    """A file's images with one of their two kinds of label."""
    content = read_file(
        shard.path,
        directory=DIRECTORY,
        name=_FILE[shard.split],
        archive_sha256=_ARCHIVE_SHA256,
        md5=_MD5[shard.split],
    )
    images, labels = images_and_labels(content, label_key=label_key, path=shard.path)
    check_labels(labels, num_classes=num_classes, path=shard.path)
    return source_batch(shard, images, labels)
