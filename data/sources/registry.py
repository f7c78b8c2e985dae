"""The sources by data set name."""

from importlib import import_module
from typing import Any

from longtail.conf.datasets import known_datasets
from longtail.conf.options.data import DataOptions
from longtail.data.sources.base import Source
from longtail.data.sources.first_classes import FirstClasses, OtherClasses
from longtail.data.sources.image_trees import CHANNELS


def _named_source(dataset: str) -> Source[Any]:
    # Any: a type checker cannot see a module that is named at run time, nor which shards are whose.
    source: Any = import_module(f"longtail.data.sources.{dataset}")
    return source


SOURCES: dict[str, Source[Any]] = {dataset: _named_source(dataset) for dataset in known_datasets()}
"""For each file of conf/datasets/, the module of the same name."""


def source_of(options: DataOptions) -> Source[Any]:
    """The source of the data set, cut to --num_classes."""
    source = SOURCES[options.dataset]
    return source if options.num_classes is None else FirstClasses(source, options.num_classes)


def known_num_classes(options: DataOptions) -> int | None:
    """The number of classes, if it is known without reading files; else None."""
    class_names = getattr(SOURCES[options.dataset], "CLASS_NAMES", None)
    return options.num_classes or (len(class_names) if class_names else None)


def known_image_shape(options: DataOptions) -> tuple[int, int, int]:
    """(height, width, channels) without reading files: published ones, or those that the user's images get."""
    source = SOURCES[options.dataset]
    return getattr(source, "IMAGE_SHAPE", (options.image_size, options.image_size, CHANNELS))


def irrelevant_source(options: DataOptions) -> Source[Any]:
    """The source of images of no class; --irrelevant_dataset is given."""
    assert options.irrelevant_dataset is not None
    source = SOURCES[options.irrelevant_dataset]
    if options.irrelevant_dataset != options.dataset:
        return source
    assert options.num_classes is not None, "DataOptions checks this"
    return OtherClasses(source, options.num_classes)
