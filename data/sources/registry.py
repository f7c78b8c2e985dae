"""The sources by data set name; a test holds these equal to the files of conf/datasets/."""

from data.sources import (
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
from data.sources.base import Source

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
