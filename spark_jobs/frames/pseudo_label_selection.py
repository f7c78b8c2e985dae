"""Which pseudo-labels to train on, DataFrame to DataFrame: no session, no write, no action.

The tables have the columns of PREDICTION_SCHEMA, with PSEUDO_LABEL in the place of
PREDICTED. Nothing depends on how their rows are spread.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from longtail.data.contract import CONFIDENCE, ID, MARGIN, PROBABILITIES, PSEUDO_LABEL

_RATIO = "_ratio"
_PLACE = "_place"
_UNITS = float(2**32)
"""Probabilities are added up as whole multiples of 2^-32: such sums are exact, so the order of rows is no matter."""


def keep_confident(pseudo_labels: DataFrame, *, threshold: float) -> DataFrame:
    """Those of at least this confidence."""
    return pseudo_labels.where(F.col(CONFIDENCE) >= F.lit(threshold).cast("float"))


def keep_top_k_per_class(pseudo_labels: DataFrame, *, k: int) -> DataFrame:
    """Of each class its k most confident; of equals those with the smallest id."""
    by_confidence = Window.partitionBy(PSEUDO_LABEL).orderBy(F.col(CONFIDENCE).desc(), F.col(ID))
    placed = pseudo_labels.withColumn(_PLACE, F.row_number().over(by_confidence))
    return placed.where(F.col(_PLACE) <= k).drop(_PLACE)


def with_aligned_distribution(pseudo_labels: DataFrame, *, target: Sequence[float]) -> DataFrame:
    """Distribution alignment (Berthelot et al. 2020, section 3.1): q' = q target / mean q, made to add up to 1.

    The mean is over the table. Label, confidence and margin become those of q'. Reads the table twice.

    target: (C,) share of each class, of any sum; at least one positive
    """
    means = (
        pseudo_labels.select(F.posexplode(PROBABILITIES).alias("class_id", "q"))
        .groupBy("class_id")
        .agg(F.sum((F.col("q") * _UNITS).cast("long")).alias("sum"))
    )
    # A class that nothing is ever said to be stays so.
    shares = F.element_at(F.array(*map(F.lit, map(float, target))), F.col("class_id") + 1)
    ratio = F.when(F.col("sum") > 0, shares / F.col("sum")).otherwise(F.lit(0.0))
    pairs = F.array_sort(F.collect_list(F.struct("class_id", ratio.alias("ratio"))))
    ratios = means.agg(F.transform(pairs, lambda pair: pair["ratio"]).alias(_RATIO))
    raised = F.zip_with(PROBABILITIES, _RATIO, lambda q, r: q.cast("double") * r)
    total = F.aggregate("_raised", F.lit(0.0), lambda sum_, q: sum_ + q)
    best = F.array_max(PROBABILITIES)
    second = F.element_at(F.sort_array(PROBABILITIES, asc=False), 2)
    return (
        pseudo_labels.crossJoin(F.broadcast(ratios))
        .withColumn("_raised", raised)
        .withColumn("_total", total)
        # Of an image that is surely of a class without a share there is nothing to raise: it stays as it is.
        .withColumn(
            PROBABILITIES,
            F.when(
                F.col("_total") > 0, F.transform("_raised", lambda q: (q / F.col("_total")).cast("float"))
            ).otherwise(F.col(PROBABILITIES)),
        )
        .withColumn(PSEUDO_LABEL, (F.array_position(PROBABILITIES, best) - 1).cast("int"))
        .withColumn(CONFIDENCE, best)
        .withColumn(MARGIN, best - second)
        .select(*pseudo_labels.columns)
    )
