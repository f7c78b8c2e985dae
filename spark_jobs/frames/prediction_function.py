"""A classifier as a function of Spark SQL: a column of images in, a column of structs of predictions out."""

import warnings
from collections.abc import Callable, Sequence

import pyarrow as pa
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import ArrowUDFType, arrow_udf
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.data.contract import NAMED_PREDICTION_SCHEMA
from longtail.spark_jobs.frames.named_predictions import predictions_of
from longtail.spark_jobs.frames.predictions import Classifier, threads_per_task, torch_of_task


def prediction_function(
    spark: SparkSession, classifier: Classifier, class_names: Sequence[str]
) -> Callable[..., Column]:
    """A function of a column of images (see image_column()) that gives NAMED_PREDICTION_SCHEMA as a struct.

    An image that cannot be decoded has null predictions and a reason; a query is not ended by it.
    """
    threads = threads_per_task(spark, classifier.threads)

    def predicted(images: pa.Array) -> pa.Array:
        with torch_of_task(threads) as device:
            return predictions_of([image.as_py for image in images], classifier, class_names, device)

    with warnings.catch_warnings():
        # PySpark prefers type hints, for which its own annotations know no structs.
        warnings.simplefilter("ignore", UserWarning)
        return arrow_udf(predicted, from_arrow_schema(NAMED_PREDICTION_SCHEMA), ArrowUDFType.SCALAR)
