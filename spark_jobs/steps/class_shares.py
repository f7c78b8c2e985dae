"""Predictions for other class shares than those of the training (--prior), and the shares of the images themselves."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_text_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import scratch_location
from longtail.conf.base.shown_text import printable
from longtail.data.class_shares import SHARE, class_shares_text
from longtail.data.contract import PROBABILITIES
from longtail.data.loader import read_columns
from longtail.data.storage import table_files
from longtail.spark_jobs.frames.predictions import Classifier
from longtail.spark_jobs.frames.writing import write_parquet

if TYPE_CHECKING:
    from longtail.training.checkpoint_metadata import CheckpointMetadata

ESTIMATED = "estimated"
CLASS_SHARES_FILE = "_class_shares.csv"
"""Beside the files of a table, whose readers leave out names that begin so."""
MOST_IMAGES = 100_000
MOST_PROBABILITIES = 2**27
"""Class shares are estimated from a sample of the images with so many probabilities (512 MiB) at most."""


@dataclass(frozen=True)
class ClassShares:
    """What the predictions are for.

    prior: as the user named it
    shares: (C,) class shares
    low, high: (C,) ends of their 95 % intervals, if they are estimated, from num_images images
    """

    prior: str
    class_names: list[str]
    shares: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
    num_images: int | None = None

    def recorded(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def write(self, file: Location) -> None:
        """As a CSV file, which --prior takes."""
        columns = {SHARE: self.shares}
        if self.low is not None and self.high is not None:
            columns |= {"low": self.low, "high": self.high}
        write_text_atomically(file, class_shares_text(self.class_names, columns))


def with_prior(
    classifier: Classifier,
    metadata: "CheckpointMetadata",
    prior: str | None,
    probabilities: Callable[[Classifier], DataFrame],
    *,
    beside: Location,
) -> tuple[Classifier, ClassShares | None]:
    """The classifier for the class shares of --prior, and these; warns if they are estimated without a calibration.

    metadata: in the order of the classifier's outputs
    probabilities: the images' rows with PROBABILITIES by a classifier, which are only read to estimate class shares
    beside: a directory that all tasks can write to
    """
    from longtail.training.inference import class_offsets, prior_shares

    if prior is None:
        return classifier, None
    if prior == ESTIMATED:
        _warn_unless_calibrated(classifier, metadata)
        found = _estimated(metadata, probabilities(classifier), beside=beside)
    else:
        found = ClassShares(prior, metadata.class_names, list(prior_shares(metadata, prior)))
    return replace(classifier, class_offsets=class_offsets(metadata, shares=found.shares)), found


def sampled(rows: DataFrame, *, num_classes: int, most_probabilities: int = MOST_PROBABILITIES) -> DataFrame:
    """A random sample of the rows whose probabilities fit into memory; all, if they do."""
    most = min(MOST_IMAGES, most_probabilities // num_classes)
    total = rows.count()
    return rows if total <= most else rows.sample(fraction=most / total, seed=0)


def collected_probabilities(predicted: DataFrame, columns: list[str], *, beside: Location) -> tuple[np.ndarray, ...]:
    """(N, C) float32 PROBABILITIES of the rows that have them, and the further columns (N,).

    Through files: the driver's JVM, through which rows are collected, has less memory than they may need.
    """
    with scratch_location(beside, "probabilities") as scratch:
        rows = predicted.where(predicted[PROBABILITIES].isNotNull()).select(PROBABILITIES, *columns)
        write_parquet(rows, scratch / "rows")
        table = read_columns(table_files(scratch / "rows"), [PROBABILITIES, *columns])
    values = table[PROBABILITIES].combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    further = (table[name].to_numpy() for name in columns)
    return flat.reshape(len(values), -1) if len(values) else np.empty((0, 0), np.float32), *further


def _estimated(metadata: "CheckpointMetadata", predicted: DataFrame, *, beside: Location) -> ClassShares:
    from longtail.training.inference import shares_of_outputs
    from longtail.training.prior_shift import estimated_with_intervals

    (probabilities,) = collected_probabilities(predicted, [], beside=beside)
    if not len(probabilities):
        raise UserError(f"--prior {ESTIMATED} needs images, and none could be decoded: name the class shares instead")
    found = estimated_with_intervals(probabilities, shares_of_outputs(metadata), calibration=metadata.calibration)
    columns = found.shares.tolist(), found.low.tolist(), found.high.tolist()
    return ClassShares(ESTIMATED, metadata.class_names, *columns, num_images=len(probabilities))


def _warn_unless_calibrated(classifier: Classifier, metadata: "CheckpointMetadata") -> None:
    if metadata.calibration is None:
        print(
            printable(
                f"warning: {classifier.checkpoint} is not calibrated, so the estimated class shares may be far off: "
                f"`longtail calibrate` writes a checkpoint that is"
            ),
            file=sys.stderr,
        )
