"""Keeps pseudo-labels by a run's checkpoint beside the run, a few of each class, for those who look at the images."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import CONFIDENCE, ID, LABEL, PREDICTED, PSEUDO_LABEL
from longtail.data.kept_predictions import KEPT_SCHEMA, LABELLING, PER_CLASS, write_kept
from longtail.data.manifest import Manifest
from longtail.spark_jobs.frames.pseudo_label_selection import keep_ends_per_class
from longtail.spark_jobs.frames.reading import read_parquet_or_delta
from longtail.streaming.events.writer import EVENTS_DIRECTORY


def keep_labels(
    spark: SparkSession, table: Location, *, checkpoint: Location, manifest: Manifest, set_dir: Location
) -> None:
    """Keep the surest and the least sure pseudo-labels of each class in a table (data/kept_predictions.py).

    A checkpoint outside a runs directory belongs to no run that anybody looks at: then nothing is kept.
    """
    if not (checkpoint.parent.parent / EVENTS_DIRECTORY).is_dir():
        return
    labels = read_parquet_or_delta(spark, table).select(ID, PSEUDO_LABEL, CONFIDENCE)
    ends = keep_ends_per_class(labels, k=PER_CLASS)
    rows = ends.select(ID, F.lit(None).cast("int").alias(LABEL), F.col(PSEUDO_LABEL).alias(PREDICTED), CONFIDENCE)
    write_kept(
        checkpoint.parent, UNLABELED, rows.toArrow().cast(KEPT_SCHEMA), manifest,
        set_dir=set_dir, epoch=0, source=LABELLING, per_class=PER_CLASS,
    )  # fmt: skip
