"""--unlabeled TABLE: the images of a Parquet or Delta table, without their labels."""

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, UNLABELED
from longtail.data.contract import ENCODED, SKIPPED, SOURCE_SCHEMA, UNLABELED_FIRST_ID
from longtail.data.image_files import CHANNELS
from longtail.data.sources.base import Located
from longtail.data.sources.table_images import RowShard, layout_of, read_stored_images, row_group_sizes, row_ranges
from longtail.data.storage import open_parquet, table_files


def locate(options: DataOptions, base: Located) -> Located:
    table = options.unlabeled_location()
    if options.imb_factor_unlabel is not None:
        raise UserError(f"{table} has images of unknown class, so --imb_factor_unlabel cannot be applied: omit it")
    shards: list[RowShard] = []
    num_images = 0
    for file in table_files(table):
        with open_parquet(file) as parquet:
            sizes = row_group_sizes(parquet)
        if not sum(sizes):
            continue
        layout = layout_of([file], options.image_column)
        if not _fits(layout.shape, base):
            ours = "files" if layout.shape is None else f"pixels of {layout.shape}"
            theirs = "files" if base.encoding == ENCODED else f"pixels of {base.image_shape}"
            raise UserError(f"{table} has {ours}, {options.dataset} has {theirs}: use one format in both")
        for rows in row_ranges(sizes):
            shards.append(
                RowShard(
                    file, UNLABELED, len(shards), UNLABELED_FIRST_ID + num_images, rows=rows, layout=layout,
                    skip_bad=options.on_bad_image == "skip",
                    decoded_size=None if base.encoding == ENCODED else base.image_shape[0],
                )
            )  # fmt: skip
            num_images += rows.num_rows
    if not shards:
        raise UserError(f"{table} has no row: name a table of images with --unlabeled")
    return Located(
        shards=shards,
        origin=f"images of the table {table.name}",
        class_names=base.class_names,
        image_shape=base.image_shape,
        encoding=base.encoding,
    )


def read(shard: RowShard) -> pa.RecordBatch:
    """The shard's rows. Raises UserError as read_stored_images does."""
    contents, is_skipped = read_stored_images(shard)
    columns = [
        pa.array(shard.first_id + np.arange(len(contents))),
        contents,
        pa.array(np.full(len(contents), NO_CLASS, np.int32)),
        pa.array(np.where(is_skipped, SKIPPED, UNLABELED).tolist(), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def _fits(shape: tuple[int, int, int] | None, base: Located) -> bool:
    """Whether images of this shape (None: files) can be converted to those of ``base``; files become square RGB."""
    if base.encoding == ENCODED:
        return shape is None
    if shape is None:
        return base.image_shape[2] == CHANNELS and base.image_shape[0] == base.image_shape[1]
    return shape == tuple(base.image_shape)
