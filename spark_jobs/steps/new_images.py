"""Images that belong to no prepared set, as a DataFrame: the files below a directory, or the rows of a table."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_for_reading
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import scratch_location
from longtail.conf.base.shown_text import printable
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.inference import ImagesOptions
from longtail.data.contract import FILE
from longtail.data.directories import files_below
from longtail.data.image_files import KINDS
from longtail.data.sources.folder import is_image, is_unread_image
from longtail.data.storage import is_table
from longtail.spark_jobs.cluster.connect import default_parallelism, num_partitions
from longtail.spark_jobs.frames.image_columns import FileColumn, ImageColumn, image_column
from longtail.spark_jobs.frames.named_predictions import (
    NOTHING_ADDED,
    Additions,
    OnBadImage,
    with_named_predictions,
)
from longtail.spark_jobs.frames.predictions import Classifier
from longtail.spark_jobs.frames.reading import TASKS_PER_SLOT, read_parquet_or_delta
from longtail.spark_jobs.steps.class_shares import MOST_PROBABILITIES, sampled

NAMES_PER_ROW_GROUP = 10_000
FILES_PER_TASK = 500
"""As a batch: the last forward pass of a task is as large as the others, however few of its images are left."""
_PATH_BYTES = "path_bytes"


@dataclass(frozen=True)
class NewImages:
    """rows: the user's rows; images: where a row has its image; kept: the columns that a result keeps

    on_bad_image: what becomes of an image that cannot be decoded (ImagesOptions)
    """

    rows: DataFrame
    images: ImageColumn | FileColumn
    kept: list[str]
    on_bad_image: OnBadImage

    def predicted(
        self, classifier: Classifier, class_names: Sequence[str], additions: Additions = NOTHING_ADDED
    ) -> DataFrame:
        """The kept columns with the predictions of with_named_predictions()."""
        return with_named_predictions(
            self.rows,
            classifier,
            class_names,
            self.images,
            on_bad_image=self.on_bad_image,
            kept=self.kept,
            additions=additions,
        )

    def sample(self, *, num_classes: int, kept: list[str], most_probabilities: int = MOST_PROBABILITIES) -> "NewImages":
        """As many of the rows as sampled() takes, for results with these columns alone."""
        rows = sampled(self.rows, num_classes=num_classes, most_probabilities=most_probabilities)
        return replace(self, rows=rows, kept=kept)


@contextmanager
def new_images(
    spark: SparkSession,
    path: Location,
    options: ImagesOptions,
    *,
    beside: Location,
    label_column: str | None = None,
    list_file: Location | None = None,
) -> Iterator[NewImages]:
    """The images of ``path``.

    beside: a directory that all tasks can read, for the list of files while the block runs
    label_column: for the class of each file, which is the first folder of its name; a table has it already
    list_file: names those of a directory that are wanted; a name without a file is a bad image

    Raises UserError if there are none.
    """
    slots = default_parallelism(spark)
    if list_file is not None and (is_table(path) or not path.is_dir()):
        raise UserError(f"--list names images below a directory, and {path} is none of images: leave it out")
    if is_table(path):
        rows = read_parquet_or_delta(spark, path)
        images = image_column(rows, options.image_column)
        if label_column is not None and label_column not in rows.columns:
            raise UserError(
                f"{path} has no column {label_column!r}: it has {', '.join(rows.columns)}; name it with --label_column"
            )
        if num_partitions(rows) < slots:  # a small table is one file, hence one partition
            rows = rows.repartition(slots)
        kept = [name for name in rows.columns if name != images.name]
        yield NewImages(rows, images, kept, options.on_bad_image)
        return
    directory = path if path.is_dir() else path.parent
    with scratch_location(beside, "list_of_files") as scratch:
        list_of_files = scratch / "files.parquet"
        kept = [FILE] if label_column is None else [FILE, label_column]
        num_files = _write_list(path, directory, list_of_files, label_column, list_file)
        tasks = slots * min(TASKS_PER_SLOT, ceil(num_files / (slots * FILES_PER_TASK)))
        listed = read_parquet_or_delta(spark, list_of_files, from_arrow_schema(_list_schema(label_column)))
        rows = listed.repartition(min(tasks, num_files))
        yield NewImages(rows, FileColumn(_PATH_BYTES, directory), kept, options.on_bad_image)


def _list_schema(label_column: str | None) -> pa.Schema:
    columns = [pa.field(FILE, pa.string()), pa.field(_PATH_BYTES, pa.binary())]
    return pa.schema(columns if label_column is None else [*columns, pa.field(label_column, pa.string())])


def _write_list(
    path: Location, directory: Location, file: Location, label_column: str | None, list_file: Location | None
) -> int:
    """Write the names of the image files, a part at a time; return how many there are."""
    schema, num_files = _list_schema(label_column), 0
    with file.open("wb") as target, pq.ParquetWriter(target, schema) as writer:
        found = _names(path, directory, in_folders=label_column is not None)
        remaining = found if list_file is None else _listed_names(list_file)
        while names := list(islice(remaining, NAMES_PER_ROW_GROUP)):
            # Names may have bytes that are not UTF-8, which no text column holds.
            rows = {FILE: [printable(name) for name in names], _PATH_BYTES: [os.fsencode(name) for name in names]}
            if label_column is not None:
                rows[label_column] = [printable(name.partition("/")[0]) for name in names]
            writer.write_table(pa.table(rows, schema=schema))
            num_files += len(names)
    if not num_files:
        where = "in folders named as the classes " if label_column is not None else ""
        raise UserError(f"{path} has no image {where}and is no Parquet or Delta table: {KINDS} files were expected")
    return num_files


def _listed_names(list_file: Location) -> Iterator[str]:
    """The names in a file, a line each. Raises UserError at one that is not below a directory."""
    try:
        with open_for_reading(list_file) as file:
            for number, line in enumerate(file, 1):
                name = os.fsdecode(line.strip())
                if not name:
                    continue
                if name.startswith("/") or ".." in name.split("/"):
                    raise UserError(
                        f"{list_file}, line {number}: a name below --path was expected, not {printable(name)}"
                    )
                yield name
    except OSError as error:
        raise UserError(f"cannot read {list_file}: {error.strerror or error}") from None


def _names(path: Location, directory: Location, *, in_folders: bool) -> Iterator[str]:
    """Names of image files relative to the directory; those of kinds that are not read too, to be listed as bad."""
    for name in _names_below(directory) if path.is_dir() else [path.name]:
        if (is_image(name) or is_unread_image(name)) and (not in_folders or "/" in name):
            yield name


def _names_below(directory: Location) -> Iterator[str]:
    if isinstance(directory, StorePath):
        return (file.relative_to(directory).as_posix() for file in directory.files_below())
    return (file.relative_to(directory).as_posix() for file in files_below(directory))
