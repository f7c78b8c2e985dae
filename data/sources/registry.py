"""The sources by data set name; a test holds these equal to the files of conf/datasets/."""

from data.sources import cifar10, digits, fashion_mnist
from data.sources.base import Source

SOURCES: dict[str, Source] = {
    "cifar10": cifar10,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
}
