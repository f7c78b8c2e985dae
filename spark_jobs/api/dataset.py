"""A prepared data set, and how prepare() makes one of what a program has in memory."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, new_directory, scratch_directory, write_atomically
from longtail.conf.base.locations import Location, location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.spellings import by_option_name
from longtail.conf.datasets import known_datasets
from longtail.conf.options.data import DATA_OPTIONS, DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.loader import load_split
from longtail.data.longtail import shot_groups
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.sources.table_images import SIZE_COLUMNS
from longtail.data.statistics import class_distribution
from longtail.data.storage import is_table
from longtail.spark_jobs.api.call import api_call
from longtail.spark_jobs.api.figures import shown
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark
from longtail.spark_jobs.cluster.session import spark_session, users_session
from longtail.spark_jobs.display.class_plot import head_to_tail_figure
from longtail.spark_jobs.frames.image_columns import column, select_exactly
from longtail.spark_jobs.frames.reading import read_prepared
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.prepare import prepare as prepare_set
from longtail.streaming.tables.plots import images_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLES_DIRECTORY = "tables"
"""In the data directory: tables of images that a program had in memory."""
ROWS_PER_GROUP = 1024


@dataclass(frozen=True)
class Dataset:
    """A prepared long-tailed data set.

    path: its directory
    options: that it was prepared with
    """

    path: Location
    options: DataOptions

    @property
    def manifest(self) -> Manifest:
        """Its origin and content."""
        return read_manifest(self.path)

    @property
    def counts(self) -> Mapping[str, list[int]]:
        """Images of each class, (C,), by split."""
        return self.manifest.counts

    @property
    def class_names(self) -> list[str]:
        """(C,) names of the classes, by number."""
        return self.manifest.class_names

    def statistics(self) -> pd.DataFrame:
        """A row for each class: its name, its shot group, and its images in each split."""
        manifest, options = self.manifest, self.options
        groups = shot_groups(manifest.counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot)
        names = {"class_name": manifest.class_names, "shot_group": list(groups)}
        return pd.DataFrame({**names, **manifest.counts})

    def rows(self) -> DataFrame:
        """Its images: id, image, label, hidden_label, split."""
        return read_prepared(users_session("dataset", self.options), self.path)

    def summary(self) -> pd.DataFrame:
        """A row for each split that has images: images, rho (largest over smallest class), normalised_entropy, gini."""
        found = {split: class_distribution(sizes) for split, sizes in self.counts.items() if any(sizes)}
        rows = [{**asdict(of_split), "split": split} for split, of_split in found.items()]
        return pd.DataFrame(rows).rename(columns={"num_images": "images"}).set_index("split")

    def plot(self) -> "Figure":
        """Its class sizes, from head to tail."""
        counts = {split: sizes for split, sizes in self.counts.items() if any(sizes)}
        return shown(head_to_tail_figure({TRAIN: counts.pop(TRAIN), **counts}, title=self.path.name))

    def samples(self, num_images: int = 8, *, num_classes: int = 6) -> "Figure":
        """Training images of the largest and of the smallest classes, as a training loads them."""
        manifest = self.manifest
        train = load_split(self.path, TRAIN, manifest)
        order = sorted(range(manifest.num_classes), key=lambda class_id: -manifest.counts[TRAIN][class_id])
        num_tail = min(num_classes, len(order)) // 2
        chosen = order[: min(num_classes, len(order)) - num_tail] + order[len(order) - num_tail :]
        images = {manifest.class_names[c]: train.images[np.flatnonzero(train.labels == c)[:num_images]] for c in chosen}
        return shown(images_figure(images))

    def values(self) -> dict[str, Any]:
        """The options that name it, for a job that works on it."""
        return {name: getattr(self.options, name) for name in DATA_OPTIONS}


@api_call()
def prepare(
    source: "str | Path | DataFrame | pd.DataFrame | pa.Table",
    *,
    label: str = "label",
    image: str = "image",
    unlabeled: "str | Path | DataFrame | pd.DataFrame | pa.Table | None" = None,
    **options: Any,
) -> Dataset:
    """Prepare a long-tailed data set, unless it is there already.

    source: the name of a data set (`cifar10`); a directory of class folders; a Parquet or Delta table; or a DataFrame
        of Spark or pandas, or an Arrow table, which is written to data_dir first
    label, image: columns of a table's labels and images
    unlabeled: images of unknown class, as those of --unlabeled, or rows in memory with the column of images
    options: those of `longtail prepare`

    Raises UserError for invalid input, with a suggestion for an option that does not exist.
    """
    use_settings_of_spark()
    named = {"label_column": label, "image_column": image, **by_option_name(PrepareOptions, options)}
    if isinstance(unlabeled, str | Path):
        named["unlabeled"] = str(unlabeled)
    # Validated before anything is written, with a location that is there.
    of_source = _source_options(source) if isinstance(source, str | Path) else {"dataset": "table", "path": Path.cwd()}
    resolved = resolve_options(PrepareOptions, {**named, **of_source})
    spark = spark_session("prepare", resolved)
    if not isinstance(source, str | Path):
        named["path"] = _written(spark, source, [image, label, *_sizes(source)], _tables_directory(resolved))
    if unlabeled is not None and not isinstance(unlabeled, str | Path):
        named["unlabeled"] = str(_written(spark, unlabeled, [image, *_sizes(unlabeled)], _tables_directory(resolved)))
    resolved = resolve_options(PrepareOptions, {**of_source, **named})
    set_dir = prepare_set(spark, resolved, as_delta=resolved.format == "delta")
    return Dataset(set_dir, resolved)


def _source_options(source: str | Path) -> dict[str, Any]:
    if isinstance(source, str) and source in known_datasets():
        return {"dataset": source}
    path = _location(source)
    if not path.exists():
        raise UserError(
            f"{source} is neither a directory, a table nor a data set: name a path that is there, or one of "
            f"{', '.join(known_datasets())}{did_you_mean(str(source), known_datasets())}"
        )
    return {"dataset": "table" if is_table(path) else "folder", "path": path}


def _location(source: str | Path) -> Location:
    try:
        return location(source)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _written(
    spark: SparkSession, source: "DataFrame | pd.DataFrame | pa.Table", columns: list[str], directory: Path
) -> Path:
    """The columns as a table whose name follows from their content, so that the same rows are written once."""
    if missing := [name for name in columns if name not in _column_names(source)]:
        raise UserError(
            f"the source has no column {missing[0]!r}: it has {', '.join(_column_names(source))}; name the columns "
            f"with image= and label="
        )
    if twice := [name for name in columns if _column_names(source).count(name) > 1]:
        raise UserError(f"the source has two columns of one name, {twice[0]!r}: rename or drop one")
    if isinstance(source, DataFrame):
        rows = select_exactly(source, columns, called=columns)
        total = rows.agg(F.count("*"), F.sum(F.xxhash64(*map(column, columns)).cast("decimal(38,0)"))).first()
        assert total is not None, "an aggregation without groups has one row"
        table = directory / f"rows{total[0]}-{int(total[1] or 0) % 2**64:016x}.parquet"
        if not table.exists():
            # Another thread that has written the same rows meanwhile may be reading its table: that one stays.
            with suppress(FileExistsError), new_directory(table) as target:
                write_parquet(rows, target)
        return table
    with scratch_directory(Path(tempfile.gettempdir()), "table") as scratch:
        try:
            if isinstance(source, pd.DataFrame):
                named = source.set_axis(_column_names(source), axis="columns")
                arrow = pa.Table.from_pandas(named[columns], preserve_index=False)
            else:
                arrow = source
            # Without metadata, which pandas has and others do not.
            plain = arrow.select(columns).replace_schema_metadata(None)
            pq.write_table(plain, scratch / "rows.parquet", row_group_size=ROWS_PER_GROUP)
        except pa.ArrowException as error:
            raise UserError(
                f"the source cannot be written as a table ({error}): images as bytes of files or of pixels, and labels "
                f"as strings or integers, were expected"
            ) from None
        table = directory / f"rows{plain.num_rows}-{content_hash(scratch / 'rows.parquet')[:16]}.parquet"
        if not table.exists():
            write_atomically(table, lambda temporary: shutil.copyfile(scratch / "rows.parquet", temporary))
    return table


def _tables_directory(options: DataOptions) -> Path:
    """Where rows in memory are written. Raises UserError if that is in a store."""
    if not isinstance(options.data_dir, Path):
        raise UserError(
            f"rows in memory are written to a local data_dir first, not to {options.data_dir}: write them to a table "
            f"there, and name it"
        )
    return options.data_dir.absolute() / TABLES_DIRECTORY


def _sizes(source: "DataFrame | pd.DataFrame | pa.Table") -> list[str]:
    """The columns that say the sizes of images that are pixels, as far as there are any."""
    return [name for name in SIZE_COLUMNS if name in _column_names(source)]


def _column_names(source: "DataFrame | pd.DataFrame | pa.Table") -> list[str]:
    if isinstance(source, DataFrame):
        return source.columns
    return [str(name) for name in (source.columns if isinstance(source, pd.DataFrame) else source.column_names)]
