"""Keeps what a job predicts with a run's checkpoint beside the run, for those who look at the images.

A checkpoint outside a runs directory belongs to no run that anybody looks at: then nothing is kept.
"""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import HELD_OUT_SPLITS, UNLABELED
from longtail.data.contract import CONFIDENCE, ID, LABEL, PREDICTED, PSEUDO_LABEL, SPLIT
from longtail.data.kept_predictions import KEPT_SCHEMA, LABELLING, PER_CLASS, is_kept, write_kept
from longtail.data.manifest import Manifest
from longtail.spark_jobs.frames.pseudo_label_selection import keep_ends_per_class
from longtail.spark_jobs.frames.reading import read_parquet_or_delta
from longtail.streaming.events.writer import EVENTS_DIRECTORY

MOST_IMAGES = 2_000_000
"""Of a split: its predictions go through the driver's memory, 20 bytes each."""


def keep_labels(
    spark: SparkSession, table: Location, *, checkpoint: Location, manifest: Manifest, set_dir: Location
) -> None:
    """Keep the surest and the least sure pseudo-labels of each class in a table (data/kept_predictions.py)."""
    if not _is_of_a_run(checkpoint):
        return
    labels = read_parquet_or_delta(spark, table).select(ID, PSEUDO_LABEL, CONFIDENCE)
    ends = keep_ends_per_class(labels, k=PER_CLASS)
    rows = ends.select(ID, F.lit(None).cast("int").alias(LABEL), F.col(PSEUDO_LABEL).alias(PREDICTED), CONFIDENCE)
    write_kept(
        checkpoint.parent, UNLABELED, rows.toArrow().cast(KEPT_SCHEMA), manifest,
        set_dir=set_dir, epoch=0, source=LABELLING, per_class=PER_CLASS,
    )  # fmt: skip


def keep_evaluation(
    predictions: DataFrame, *, checkpoint: Location, manifest: Manifest, set_dir: Location, epoch: int
) -> None:
    """Keep the predictions of held-out splits of which the run has kept none, as one that an older version trained.

    predictions: SPLIT, ID, LABEL, PREDICTED and CONFIDENCE
    epoch: of the checkpoint
    """
    if not _is_of_a_run(checkpoint):
        return
    for split in HELD_OUT_SPLITS:
        if is_kept(checkpoint.parent, split) or manifest.num_images(split) > MOST_IMAGES:
            continue
        rows = predictions.where(F.col(SPLIT) == split).select(*KEPT_SCHEMA.names).toArrow().cast(KEPT_SCHEMA)
        if len(rows):
            write_kept(checkpoint.parent, split, rows, manifest, set_dir=set_dir, epoch=epoch)


def _is_of_a_run(checkpoint: Location) -> bool:
    return (checkpoint.parent.parent / EVENTS_DIRECTORY).is_dir()
