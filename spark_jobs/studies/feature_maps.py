"""Features of test images for the trials under `shown`, and their two-dimensional maps.

    RESULTS_DIR/features/experiment=NAME/TRIAL.parquet

has the features of at most MAX_POINTS test images of a trial, so that the report
does not need the run's checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import options_for
from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location
from longtail.conf.experiment import Experiment
from longtail.conf.options.classifier import INFERENCE_BATCH_SIZE
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.vocabulary import TEST
from longtail.data.contract import FEATURES, ID, LABEL, PREDICTED, SPLIT
from longtail.data.storage import read_table
from longtail.spark_jobs.frames.reading import pattern_of
from longtail.spark_jobs.steps.evaluation import PREDICTIONS_DIRECTORY, evaluate_checkpoint
from longtail.spark_jobs.studies.planned import SET, PlannedTrial
from longtail.spark_jobs.studies.results import EXPERIMENT
from longtail.spark_jobs.studies.run_step import Outputs
from longtail.spark_jobs.studies.trial_row import Row

FEATURES_DIRECTORY = "features"
MAX_POINTS = 1000
"""More points would take longer and overlap."""


@dataclass(frozen=True)
class FeatureMap:
    """A map of N test images.

    positions: (N, 2)
    labels: (N,)
    """

    title: str
    positions: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    shot_groups: list[str]


def is_mapped(experiment: Experiment, planned: PlannedTrial) -> bool:
    """Whether the report maps the trial's features: the first seed of the arms under `shown`."""
    trial = planned.trial
    is_shown = any(levels.items() <= trial.levels.items() for levels in experiment.shown)
    return is_shown and trial.options["seed"] == experiment.seeds[0]


def features_file(results_dir: Location, experiment: str, trial_id: str) -> Location:
    """The Parquet file of a trial's features."""
    return results_dir / FEATURES_DIRECTORY / f"{EXPERIMENT}={experiment}" / f"{trial_id}.parquet"


def write_feature_map(
    spark: SparkSession, planned: PlannedTrial, outputs: Outputs, *, results_dir: Location, experiment: str
) -> None:
    """Compute the features of the test images with the trial's last checkpoint; write those of MAX_POINTS images."""
    last = outputs[planned.last_step.step_id]
    options = options_for(
        EvaluateOptions, last.options, resume=last.path, splits=TEST, features=True, logit_adjustment=None,
        batch_size=INFERENCE_BATCH_SIZE,
    )  # fmt: skip
    output_dir, _ = evaluate_checkpoint(spark, options, set_dir=outputs[planned.last_step.inputs[SET].step_id].path)
    rows = (
        spark.read.parquet(pattern_of(output_dir / PREDICTIONS_DIRECTORY))
        .where(F.col(SPLIT) == TEST)
        .select(ID, LABEL, PREDICTED, FEATURES)
        .orderBy(F.xxhash64(ID), ID)
        .limit(MAX_POINTS)
        .toArrow()
    )
    file = features_file(results_dir, experiment, planned.trial.trial_id)
    write_atomically(file, lambda temporary: pq.write_table(rows, temporary))


def read_maps(results_dir: Location, experiment: str, rows: Sequence[Row]) -> list[FeatureMap]:
    """Maps of the trials whose features were written. rows: of the results table"""
    files = [(row, features_file(results_dir, experiment, row["trial"])) for row in rows]
    return [_feature_map(row, read_table(file)) for row, file in files if file.exists()]


def _feature_map(row: Row, table: pa.Table) -> FeatureMap:
    from longtail.training.features import tsne_map  # imports torch and scikit-learn, which only maps need

    features = table[FEATURES].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    title = f"{', '.join(row['levels'].values())}, seed {row['seed']}"
    positions = tsne_map(features, seed=0)
    return FeatureMap(title, positions, table[LABEL].to_numpy(), row["class_names"], row["shot_groups"])
