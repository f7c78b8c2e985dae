"""Selection and alignment of pseudo-labels. DataFrame to DataFrame.

The tables have the columns of PREDICTION_SCHEMA, with PSEUDO_LABEL instead of PREDICTED. Results do not depend on the
order or the partitions of the rows.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from longtail.data.contract import CONFIDENCE, ID, MARGIN, PROBABILITIES, PSEUDO_LABEL

_RATIO = "_ratio"
_RANK, _FROM_END = "_rank", "_from_end"
_UNITS = float(2**32)
"""Probabilities are summed as integer multiples of 2^-32: such sums are exact in any order of the rows."""


def keep_confident(pseudo_labels: DataFrame, *, threshold: float) -> DataFrame:
    """Keep pseudo-labels of at least this confidence."""
    return pseudo_labels.where(F.col(CONFIDENCE) >= F.lit(threshold).cast("float"))


def keep_top_k_per_class(pseudo_labels: DataFrame, *, k: int) -> DataFrame:
    """Keep the k most confident pseudo-labels of each class; of equal ones, those with the smallest ids."""
    by_confidence = Window.partitionBy(PSEUDO_LABEL).orderBy(F.col(CONFIDENCE).desc(), F.col(ID))
    ranked = pseudo_labels.withColumn(_RANK, F.row_number().over(by_confidence))
    return ranked.where(F.col(_RANK) <= k).drop(_RANK)


def keep_ends_per_class(pseudo_labels: DataFrame, *, k: int) -> DataFrame:
    """Keep the k most and the k least confident pseudo-labels of each class, each row once."""
    of_class = Window.partitionBy(PSEUDO_LABEL)
    order = [F.col(CONFIDENCE).desc(), F.col(ID)]
    ranked = pseudo_labels.withColumn(_RANK, F.row_number().over(of_class.orderBy(*order)))
    from_end = F.count("*").over(of_class) - F.col(_RANK)
    return (
        ranked.withColumn(_FROM_END, from_end)
        .where((F.col(_RANK) <= k) | (F.col(_FROM_END) < k))
        .drop(_RANK, _FROM_END)
    )


def with_aligned_distribution(pseudo_labels: DataFrame, *, target: Sequence[float]) -> DataFrame:
    """Distribution alignment (Berthelot et al. 2020, section 3.1): q' = q target / mean q, normalised to sum to 1.

    The mean is over the table. Label, confidence and margin become those of q'. Reads the table twice.

    target: (C,) shares of the classes, with any sum; at least one is positive
    """
    means = (
        pseudo_labels.select(F.posexplode(PROBABILITIES).alias("class_id", "q"))
        .groupBy("class_id")
        .agg(F.sum((F.col("q") * _UNITS).cast("long")).alias("sum"))
    )
    # A class with no probability in any row keeps none.
    shares = F.element_at(F.array(*map(F.lit, map(float, target))), F.col("class_id") + 1)
    ratio = F.when(F.col("sum") > 0, shares / F.col("sum")).otherwise(F.lit(0.0))
    pairs = F.array_sort(F.collect_list(F.struct("class_id", ratio.alias("ratio"))))
    ratios = means.agg(F.transform(pairs, lambda pair: pair["ratio"]).alias(_RATIO))
    scaled = F.zip_with(PROBABILITIES, _RATIO, lambda q, r: q.cast("double") * r)
    total = F.aggregate("_scaled", F.lit(0.0), lambda sum_, q: sum_ + q)
    best = F.array_max(PROBABILITIES)
    second = F.element_at(F.sort_array(PROBABILITIES, asc=False), 2)
    return (
        pseudo_labels.crossJoin(F.broadcast(ratios))
        .withColumn("_scaled", scaled)
        .withColumn("_total", total)
        # An image with all its probability on classes whose target is 0 has nothing to scale: it keeps its row.
        .withColumn(
            PROBABILITIES,
            F.when(
                F.col("_total") > 0, F.transform("_scaled", lambda q: (q / F.col("_total")).cast("float"))
            ).otherwise(F.col(PROBABILITIES)),
        )
        .withColumn(PSEUDO_LABEL, (F.array_position(PROBABILITIES, best) - 1).cast("int"))
        .withColumn(CONFIDENCE, best)
        .withColumn(MARGIN, best - second)
        .select(*pseudo_labels.columns)
    )
