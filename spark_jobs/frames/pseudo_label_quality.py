"""Pseudo-labels compared with the withheld labels. DataFrame to DataFrame."""

from collections.abc import Sequence

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, PSEUDO_LABEL, SPLIT
from longtail.data.longtail import head_half


def with_label_quality(pseudo_labels: DataFrame, prepared: DataFrame, *, class_counts: Sequence[int]) -> DataFrame:
    """Counts per class: class_id, predicted, support, labelled, correct, judged, right_half. Reads the withheld labels.

    predicted: images with this pseudo-label
    support: images of the unlabeled part with this withheld label
    labelled: those of the support that have any pseudo-label
    correct: those of the support that have this pseudo-label
    judged: those of the predicted whose withheld label is known; correct / judged is the precision
    right_half: those of the judged whose withheld label is of the same half of the classes, head or tail

    class_counts: labelled images per class

    An image whose withheld label is null counts as predicted only. Every class has a row, if need be of zeros.
    """
    withheld = prepared.where(F.col(SPLIT) == UNLABELED).select(ID, F.col(HIDDEN_LABEL).alias("target"))
    joined = withheld.join(pseudo_labels.select(ID, PSEUDO_LABEL), ID, "left")
    classes = pseudo_labels.sparkSession.range(len(class_counts)).select(F.col("id").cast("int").alias("class_id"))
    is_head = head_half(class_counts)
    of_both = [
        F.col(PSEUDO_LABEL).isin(half) & F.col("target").isin(half)
        for half in (np.flatnonzero(is_head).tolist(), np.flatnonzero(~is_head).tolist())
    ]
    predicted = joined.groupBy(F.col(PSEUDO_LABEL).alias("class_id")).agg(
        F.count("*").alias("predicted"),
        F.count("target").alias("judged"),
        F.count_if(of_both[0] | of_both[1]).alias("right_half"),
    )
    is_correct = (F.col(PSEUDO_LABEL) == F.col("target")).cast("long")
    actual = joined.groupBy(F.col("target").alias("class_id")).agg(
        F.count("*").alias("support"), F.count(PSEUDO_LABEL).alias("labelled"), F.sum(is_correct).alias("correct")
    )
    joined = classes.join(predicted, "class_id", "left").join(actual, "class_id", "left").na.fill(0)
    return joined.select("class_id", "predicted", "support", "labelled", "correct", "judged", "right_half").orderBy(
        "class_id"
    )
