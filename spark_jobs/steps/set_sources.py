"""The sources that the images of a set come from, taken together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.data.contract import IRRELEVANT_FIRST_ID
from longtail.data.image_files import KINDS
from longtail.data.sources.base import Located, Source, UnlabeledSource
from longtail.data.sources.registry import irrelevant_source
from longtail.data.sources.unlabeled import unlabeled_source
from longtail.spark_jobs.frames.reading import as_irrelevant, source_fingerprints
from longtail.spark_jobs.steps.copies import ImageNames


@dataclass(frozen=True)
class LocatedSource:
    """is_irrelevant: its training images become unlabeled images of none of the classes"""

    source: Source | UnlabeledSource
    located: Located
    is_irrelevant: bool = False


def fingerprints_of(spark: SparkSession, sources: Sequence[LocatedSource]) -> DataFrame:
    """The fingerprints of all sources' images (FINGERPRINT_SCHEMA)."""
    return _together((source, source_fingerprints(spark, source.source, source.located)) for source in sources)


def _together(frames: Iterable[tuple[LocatedSource, DataFrame]]) -> DataFrame:
    return reduce(
        DataFrame.unionByName, (as_irrelevant(rows) if source.is_irrelevant else rows for source, rows in frames)
    )


def image_names(sources: Sequence[LocatedSource]) -> ImageNames:
    shards = [
        (shard.first_id + (IRRELEVANT_FIRST_ID if source.is_irrelevant else 0), shard)
        for source in sources
        for shard in source.located.shards
    ]
    return ImageNames(shards, sources[0].located.class_names)


def unread_images(sources: Sequence[LocatedSource]) -> list[tuple[str, str]]:
    """Name and reason of each file of a kind of image that is not read."""
    return [(name, f"it is not a {KINDS} file") for source in sources for name in source.located.unread]


def unlabeled_sources(options: DataOptions, base: Located) -> Iterator[LocatedSource]:
    """The sources of the unlabeled part alone."""
    if options.unlabeled is not None:
        source = unlabeled_source(options, base)
        yield LocatedSource(source, source.locate(options, base))
    if options.irrelevant_dataset is not None:
        other = irrelevant_source(options)
        located = other.locate(options)
        if (located.image_shape, located.encoding) != (base.image_shape, base.encoding):
            raise UserError(
                f"--irrelevant_dataset {options.irrelevant_dataset} has {located.encoding} images of "
                f"{located.image_shape}, {options.dataset} {base.encoding} images of {base.image_shape}: choose another"
            )
        yield LocatedSource(other, located, is_irrelevant=True)
