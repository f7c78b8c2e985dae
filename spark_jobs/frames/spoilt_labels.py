"""True labels of which a share is spoilt on purpose, as a classifier confuses the classes. DataFrame to DataFrame.

For studies of what wrong pseudo-labels cost: the share of right ones is chosen, the kind of mistakes is real.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import (
    CONFIDENCE,
    HIDDEN_LABEL,
    ID,
    MARGIN,
    MODEL_VERSION,
    PROBABILITIES,
    PSEUDO_LABEL,
    SPLIT,
)

_UNITS = 2**30
_TARGET, _WRONG, _FROM, _TO, _TOTAL, _PLACE = "_target", "_wrong", "_from", "_to", "_total", "_place"


def with_spoilt_labels(pseudo_labels: DataFrame, prepared: DataFrame, *, share: float, num_classes: int) -> DataFrame:
    """Replace pseudo-labels by the withheld ones, and this share of those by wrong ones. Reads the table twice.

    A wrong label of class c is class k in proportion to how often the classifier takes images of c for k; a class that
    it never mistakes keeps its labels. Which images have wrong ones follows from their ids and the classifier: those of
    a smaller share are among those of a larger one. Confidence and margin become 1, as nothing is predicted. An image
    whose withheld label is null keeps its row.

    pseudo_labels: with the columns of the classifier's predictions
    prepared: the prepared set, of which the withheld labels are read
    share: in [0, 1]
    """
    withheld = prepared.where(F.col(SPLIT) == UNLABELED).select(ID, F.col(HIDDEN_LABEL).cast("int").alias(_TARGET))
    labelled = pseudo_labels.join(withheld, ID, "left")
    mistakes = (
        labelled.where(F.col(PSEUDO_LABEL) != F.col(_TARGET))
        .groupBy(_TARGET, F.col(PSEUDO_LABEL).alias(_WRONG))
        .agg(F.count("*").alias("_count"))
    )
    of_class = Window.partitionBy(_TARGET)
    up_to_here = of_class.orderBy(_WRONG).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    ranges = mistakes.select(
        F.col(_TARGET).alias("_class"),
        _WRONG,
        (F.sum("_count").over(up_to_here) - F.col("_count")).alias(_FROM),
        F.sum("_count").over(up_to_here).alias(_TO),
        F.sum("_count").over(of_class).alias(_TOTAL),
    )
    # Two draws for each image, that depend on nothing but its id and the classifier.
    is_spoilt = F.pmod(F.xxhash64(ID, MODEL_VERSION, F.lit(0)), F.lit(_UNITS)) < F.lit(round(share * _UNITS))
    drawn = labelled.withColumn("_spoilt", is_spoilt).withColumn(_PLACE, F.xxhash64(ID, MODEL_VERSION, F.lit(1)))
    place = F.pmod(F.col(_PLACE), F.col(_TOTAL))
    found = drawn.join(
        F.broadcast(ranges),
        F.col("_spoilt") & (F.col(_TARGET) == F.col("_class")) & (place >= F.col(_FROM)) & (place < F.col(_TO)),
        "left",
    )
    label = F.coalesce(F.col(_WRONG), F.col(_TARGET))
    one_hot = F.transform(F.sequence(F.lit(0), F.lit(num_classes - 1)), lambda k: (k == label).cast("float"))
    is_known = F.col(_TARGET).isNotNull()
    new = {
        PSEUDO_LABEL: label,
        CONFIDENCE: F.lit(1.0).cast("float"),
        MARGIN: F.lit(1.0).cast("float"),
        PROBABILITIES: one_hot,
    }
    return found.select(
        *(
            F.when(is_known, new[name]).otherwise(F.col(name)).alias(name) if name in new else F.col(name)
            for name in pseudo_labels.columns
        )
    )
