"""CIFAR-100 with its 20 coarse labels: the files of cifar100.py, five fine classes per coarse class."""

import pyarrow as pa

from longtail.conf.options.data import DataOptions
from longtail.data.sources.base import Located, Shard
from longtail.data.sources.cifar100 import locate_files, read_labels
from longtail.data.sources.cifar_files import IMAGE_SHAPE as IMAGE_SHAPE

CLASS_NAMES = [
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores",
    "medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees",
    "vehicles_1", "vehicles_2",
]  # fmt: skip


def locate(options: DataOptions) -> Located:
    return locate_files(options.data_dir.absolute(), class_names=CLASS_NAMES)


def read(shard: Shard) -> pa.RecordBatch:
    return read_labels(shard, label_key="coarse_labels", num_classes=len(CLASS_NAMES))
