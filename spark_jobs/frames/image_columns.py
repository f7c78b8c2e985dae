"""Columns of a user's own rows that hold images, in whatever form (data/any_image.py), or that name files of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructType

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.data.any_image import SIZED_PIXELS
from longtail.data.sources.table_images import SIZE_COLUMNS, SPARK_FIELDS


@dataclass(frozen=True)
class ImageColumn:
    """The rows' images are in a column; where there are SIZE_COLUMNS, they may be pixels of that size."""

    name: str
    has_sizes: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read for an image."""
        return (self.name, *SIZE_COLUMNS) if self.has_sizes else (self.name,)

    def value(self, row: dict[str, Any]) -> object:
        """A row's image, for pixels_of()."""
        image = row[self.name]
        if self.has_sizes and isinstance(image, bytes):
            return dict(zip(SIZED_PIXELS, [*(row[name] for name in SIZE_COLUMNS), image], strict=True))
        return image


@dataclass(frozen=True)
class FileColumn:
    """The rows name files: a column holds the bytes of their paths below a directory."""

    name: str
    directory: Location

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read for an image."""
        return (self.name,)

    def value(self, row: dict[str, Any]) -> object:
        """The content of a row's file. May raise BAD_IMAGE."""
        return read_regular_file(self.directory.joinpath(os.fsdecode(row[self.name])))


def image_column(frame: DataFrame, name: str) -> ImageColumn:
    """The column of a frame's images. Raises UserError if there is none of that name, or if it cannot hold images."""
    if name not in frame.columns:
        raise UserError(
            f"the images' table has no column {name!r}: it has {', '.join(frame.columns)}; name it with --image_column "
            f"(in Python, image=)"
        )
    kind = frame.schema[name].dataType
    fields = set(kind.names) if isinstance(kind, StructType) else set()
    if not isinstance(kind, BinaryType) and "bytes" not in fields and not fields >= set(SPARK_FIELDS):
        raise UserError(
            f"the column {name!r} is of the type {kind.simpleString()}: bytes of a file or of pixels, a struct with "
            f"`bytes`, or Spark's image struct were expected"
        )
    return ImageColumn(name, has_sizes=set(SIZE_COLUMNS) <= set(frame.columns))


def select_exactly(frame: DataFrame, names: Sequence[str], *, called: Sequence[str]) -> DataFrame:
    """The columns of these names, called otherwise. The frame's names may differ in upper and lower case alone."""
    if len({name.casefold() for name in frame.columns}) == len(frame.columns):
        return frame.select(*(column(name).alias(new) for name, new in zip(names, called, strict=True)))
    numbered = [f"column_{number}_of_frame" for number in range(len(frame.columns))]
    by_name = dict(zip(frame.columns, numbered, strict=True))
    return frame.toDF(*numbered).select(
        *(F.col(by_name[name]).alias(new) for name, new in zip(names, called, strict=True))
    )


def column(name: str) -> Column:
    """A column of any name, dots included."""
    return F.col("`" + name.replace("`", "``") + "`")
