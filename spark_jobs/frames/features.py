"""Features of a prepared set's images by Spark tasks: what a network computes before its head."""

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.data.contract import FEATURE_SCHEMA, ID, IMAGE
from longtail.data.loader import decode_images
from longtail.spark_jobs.cluster.connect import default_parallelism
from longtail.spark_jobs.frames.predictions import (
    Classifier,
    inference_profile,
    lists_of,
    outputs_of,
    threads_per_task,
    torch_of_task,
)


def with_features(images: DataFrame, classifier: Classifier) -> DataFrame:
    """id, image -> id, features (FEATURE_SCHEMA)."""
    spark = images.sparkSession
    compute = partial(
        _features_of_partition, classifier=classifier, threads=threads_per_task(spark, classifier.threads)
    )
    # A small set is one file, hence one partition: distribute it over all slots.
    spread = images.select(ID, IMAGE).repartition(default_parallelism(spark), ID)
    return spread.mapInArrow(compute, from_arrow_schema(FEATURE_SCHEMA), profile=inference_profile(spark))


def _features_of_partition(
    batches: Iterator[pa.RecordBatch], *, classifier: Classifier, threads: int | None
) -> Iterator[pa.RecordBatch]:
    with torch_of_task(threads) as device:
        for batch in batches:
            images = decode_images(batch.column(IMAGE), classifier.image_shape, classifier.encoding)
            found, _ = outputs_of(classifier, images, device, with_features=True)
            if found.features is not None:  # there are images
                yield pa.RecordBatch.from_arrays(
                    [batch.column(ID), lists_of(found.features.numpy())], schema=FEATURE_SCHEMA
                )
