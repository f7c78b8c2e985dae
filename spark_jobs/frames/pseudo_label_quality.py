"""How right pseudo-labels are, by the withheld labels. DataFrame to DataFrame."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, PSEUDO_LABEL, SPLIT


def with_label_quality(pseudo_labels: DataFrame, prepared: DataFrame, *, num_classes: int) -> DataFrame:
    """How right pseudo-labels are: class_id, predicted, support, labelled, correct. Reads the withheld labels.

    predicted: images that are said to be of the class; support: images of the unlabeled part that are of it;
    labelled: of these, those that have a pseudo-label; correct: of these, those that have the right one

    An image whose withheld label is null can be predicted, but not rightly.
    Every class keeps its row; counts of an absent one are 0.
    """
    truth = prepared.where(F.col(SPLIT) == UNLABELED).select(ID, F.col(HIDDEN_LABEL).alias("truth"))
    joined = truth.join(pseudo_labels.select(ID, PSEUDO_LABEL), ID, "left")
    classes = pseudo_labels.sparkSession.range(num_classes).select(F.col("id").cast("int").alias("class_id"))
    predicted = joined.groupBy(F.col(PSEUDO_LABEL).alias("class_id")).agg(F.count("*").alias("predicted"))
    is_right = (F.col(PSEUDO_LABEL) == F.col("truth")).cast("long")
    actual = joined.groupBy(F.col("truth").alias("class_id")).agg(
        F.count("*").alias("support"), F.count(PSEUDO_LABEL).alias("labelled"), F.sum(is_right).alias("correct")
    )
    return classes.join(predicted, "class_id", "left").join(actual, "class_id", "left").na.fill(0).orderBy("class_id")
