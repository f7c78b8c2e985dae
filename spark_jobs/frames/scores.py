"""Scores of a table of predictions, summed up by Spark: what reaches the driver grows with the classes alone."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.data.contract import CONFIDENCE, PREDICTED
from longtail.spark_jobs.frames.predictions import IN_TOP5, LOSS

_BIN = "bin"


def table_scores(rows: DataFrame, groups: Sequence[str], *, label_column: str) -> dict[str, Any]:
    """All scores of a split (training/metrics.py, split_scores).

    rows: label_column (class numbers), PREDICTED, CONFIDENCE, LOSS and IN_TOP5
    groups: shot group of each class
    """
    # With torch, which takes seconds to import.
    from longtail.training.metrics import CALIBRATION_BINS, ClassTotals, detailed_scores, per_class_scores, summarise

    confidence = F.col(CONFIDENCE).cast("double")
    cells = (
        rows.groupBy(F.col(label_column).alias("target"), PREDICTED)
        .agg(
            F.count("*").alias("count"),
            F.sum(confidence).alias("confidence"),
            F.sum(F.col(LOSS).cast("double")).alias("loss"),
            F.sum(F.col(IN_TOP5).cast("long")).alias("in_top5"),
        )
        .orderBy("target", PREDICTED)
        .collect()
    )
    is_correct = (F.col(label_column) == F.col(PREDICTED)).cast("double")
    number = F.greatest(F.lit(1), F.least(F.lit(CALIBRATION_BINS), F.ceil(confidence * CALIBRATION_BINS)))
    bins = rows.groupBy(number.alias(_BIN)).agg(F.sum(is_correct - confidence)).orderBy(_BIN).collect()

    totals = {name: [0.0] * len(groups) for name in ClassTotals.FIELDS}
    for target, predicted, count, confidence_sum, loss_sum, _ in cells:
        totals["support"][target] += count
        totals["correct"][target] += count if target == predicted else 0
        totals["predicted"][predicted] += count
        totals["loss_sum"][target] += loss_sum
        totals["confidence_sum"][target] += confidence_sum
    detailed = detailed_scores(
        num_images=sum(row["count"] for row in cells),
        num_in_top5=sum(row["in_top5"] for row in cells),
        calibration_differences=[difference for _, difference in bins],
        confusion={
            "target": [row["target"] for row in cells],
            "predicted": [row[PREDICTED] for row in cells],
            "count": [row["count"] for row in cells],
        },
        num_classes=len(groups),
    )
    return {**summarise(totals, groups), **per_class_scores(totals), **detailed, "totals": totals}
