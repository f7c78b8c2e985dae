"""Predictions of a window, or of a reference to compare it with, counted by class and confidence."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import with_examples
from longtail.data.contract import ARRIVED_AT, CLASS_NAME, CONFIDENCE
from longtail.data.storage import check_columns, open_parquet, table_files
from longtail.streaming.drift import CONFIDENCE_BINS, FEWEST_IMAGES, PredictionSums, novelty_bound

_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class WindowCounts:
    """images: (C, CONFIDENCE_BINS) images by predicted class and confidence

    confidence_sums, confidence_squares: (C,) sums of the confidence and of its squares
    """

    images: np.ndarray
    confidence_sums: np.ndarray
    confidence_squares: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """(C,) images that are predicted as each class."""
        return self.images.sum(axis=1)

    @property
    def num_images(self) -> int:
        """Images that have a prediction."""
        return int(self.images.sum())

    def __add__(self, other: "WindowCounts") -> "WindowCounts":
        return WindowCounts(
            self.images + other.images,
            self.confidence_sums + other.confidence_sums,
            self.confidence_squares + other.confidence_squares,
        )

    def novel(self, reference: "WindowCounts") -> np.ndarray:
        """(C,) images that are novel to a reference."""
        return self.images[:, : novelty_bound(reference.images.sum(axis=0))].sum(axis=1)

    def predictions(self, reference: "WindowCounts") -> PredictionSums:
        """Summed up, to be compared with a reference."""
        sums = float(self.confidence_sums.sum()), float(self.confidence_squares.sum())
        return PredictionSums(self.counts, *sums, novel=int(self.novel(reference).sum()))


def read_arrived(file: Location, columns: list[str], *, seconds: int) -> tuple[pa.Table, pa.ChunkedArray]:
    """Columns of a file that Spark wrote, and where the window of each row begins by its ARRIVED_AT."""
    # In the unit that the times have there, of which more years fit into 64 bits than of Arrow's own choice.
    rows = pq.ParquetFile(file, coerce_int96_timestamp_unit=_MOMENT.unit).read([*columns, ARRIVED_AT])
    return rows, pc.floor_temporal(rows[ARRIVED_AT].cast(_MOMENT), seconds, unit="second")


def confidence_bins(confidence: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) int64 the bin of each confidence, from 0."""
    bins = pc.floor(pc.multiply(confidence.cast(pa.float64()), float(CONFIDENCE_BINS))).cast(pa.int64())
    return pc.min_element_wise(bins, CONFIDENCE_BINS - 1)


def counted(classes: np.ndarray, confidence: np.ndarray, bins: np.ndarray, *, num_classes: int) -> WindowCounts:
    """The counts of N images: (N,) class, confidence and bin of each."""
    cells = np.bincount(classes * CONFIDENCE_BINS + bins, minlength=num_classes * CONFIDENCE_BINS)
    sums, squares = (
        np.bincount(classes, weights=values, minlength=num_classes) for values in (confidence, confidence**2)
    )
    return WindowCounts(cells.reshape(num_classes, CONFIDENCE_BINS), sums, squares)


def read_reference(table: Location, class_names: list[str], *, of: Location) -> WindowCounts:
    """The predictions of a table that `longtail predict` wrote, matched by the names of the classes.

    of: the checkpoint that has these names, for messages

    Raises UserError if a prediction is of none of these classes.
    """
    none = np.empty(0, np.int64)
    total = counted(none, none, none, num_classes=len(class_names))
    names = pa.array(class_names, pa.string())
    for file in table_files(table):
        with open_parquet(file) as parquet:
            check_columns(parquet, [CLASS_NAME, CONFIDENCE], file=file)
            rows = parquet.read([CLASS_NAME, CONFIDENCE])
        rows = rows.filter(pc.is_valid(rows[CLASS_NAME]))
        classes = pc.index_in(found := rows[CLASS_NAME].cast(pa.string()), names)
        if classes.null_count:
            foreign = sorted(pc.unique(found.filter(pc.is_null(classes))).to_pylist())
            raise UserError(
                f"{file} has predictions of other classes than {of}: {with_examples(foreign)}; name another --reference"
            )
        confidence = rows[CONFIDENCE]
        total += counted(
            classes.to_numpy(), confidence.to_numpy().astype(float), confidence_bins(confidence).to_numpy(),
            num_classes=len(class_names),
        )  # fmt: skip
    if total.num_images < FEWEST_IMAGES:
        raise UserError(f"{table} has {total.num_images} predictions, at least {FEWEST_IMAGES} are a reference")
    return total
