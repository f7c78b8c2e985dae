"""The sources by data set name; a test holds these equal to the files of conf/datasets/."""

from longtail.conf.options.data import DataOptions
from longtail.data.sources import (
    cifar10,
    cifar100,
    cifar100_coarse,
    digits,
    fashion_mnist,
    folder,
    image_list,
    mnist,
    svhn,
    table,
)
from longtail.data.sources.base import Source
from longtail.data.sources.first_classes import FirstClasses, OtherClasses

SOURCES: dict[str, Source] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar100_coarse": cifar100_coarse,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "folder": folder,
    "image_list": image_list,
    "mnist": mnist,
    "svhn": svhn,
    "table": table,
}


def source_of(options: DataOptions) -> Source:
    """Where the data set comes from."""
    source = SOURCES[options.dataset]
    return source if options.num_classes is None else FirstClasses(source, options.num_classes)


def known_num_classes(options: DataOptions) -> int | None:
    """How many classes the data set has, without a look at its files; None where only they tell."""
    class_names = getattr(SOURCES[options.dataset], "CLASS_NAMES", None)
    return options.num_classes or (len(class_names) if class_names else None)


def irrelevant_source(options: DataOptions) -> Source:
    """Where images of no class come from; --irrelevant_dataset is given."""
    assert options.irrelevant_dataset is not None
    source = SOURCES[options.irrelevant_dataset]
    if options.irrelevant_dataset != options.dataset:
        return source
    assert options.num_classes is not None, "DataOptions sees to it"
    return OtherClasses(source, options.num_classes)
