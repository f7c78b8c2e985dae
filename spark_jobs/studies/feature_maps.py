"""Features of test images, of the trials that an experiment shows more of, and the maps that a report makes of them.

    RESULTS_DIR/features/experiment=NAME/TRIAL.parquet

has the features of at most MAX_POINTS test images of a trial: what the report
needs, wherever the run's checkpoint is by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import options_for
from longtail.conf.base.files import write_atomically
from longtail.conf.experiment import Experiment
from longtail.conf.options.inference import INFERENCE_BATCH_SIZE, EvaluateOptions
from longtail.conf.vocabulary import TEST
from longtail.data.contract import ID, LABEL, PREDICTED, SPLIT
from longtail.spark_jobs.frames.predictions import FEATURES
from longtail.spark_jobs.steps.evaluation import PREDICTIONS_DIRECTORY, evaluate
from longtail.spark_jobs.studies.planned import SET, PlannedTrial
from longtail.spark_jobs.studies.results import EXPERIMENT
from longtail.spark_jobs.studies.run_step import Outputs

FEATURES_DIRECTORY = "features"
MAX_POINTS = 1000
"""A map of more images takes longer and shows no more."""


@dataclass(frozen=True)
class FeatureMap:
    """places: (N, 2) of the test images; labels: (N,)"""

    title: str
    places: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    shot_groups: list[str]


def is_mapped(experiment: Experiment, planned: PlannedTrial) -> bool:
    """Whether the experiment shows the trial's features: one of the arms it names, at the first seed."""
    trial = planned.trial
    named = any(levels.items() <= trial.levels.items() for levels in experiment.shown)
    return named and trial.options["seed"] == experiment.seeds[0]


def features_file(results_dir: Path, experiment: str, trial_id: str) -> Path:
    return results_dir / FEATURES_DIRECTORY / f"{EXPERIMENT}={experiment}" / f"{trial_id}.parquet"


def write_features(
    spark: SparkSession, planned: PlannedTrial, outputs: Outputs, *, results_dir: Path, experiment: str
) -> None:
    """Infer the features of the test images by the trial's last checkpoint, and keep those of MAX_POINTS of them."""
    last = outputs[planned.last_step.step_id]
    options = options_for(
        EvaluateOptions, last.options, resume=last.path, splits=TEST, features=True, logit_adjustment=None,
        batch_size=INFERENCE_BATCH_SIZE,
    )  # fmt: skip
    output_dir, _ = evaluate(spark, options, set_dir=outputs[planned.last_step.inputs[SET].step_id].path)
    rows = (
        spark.read.parquet(str(output_dir / PREDICTIONS_DIRECTORY))
        .where(F.col(SPLIT) == TEST)
        .select(ID, LABEL, PREDICTED, FEATURES)
        .orderBy(F.xxhash64(ID), ID)
        .limit(MAX_POINTS)
        .toArrow()
    )
    file = features_file(results_dir, experiment, planned.trial.trial_id)
    write_atomically(file, lambda temporary: pq.write_table(rows, temporary))


def read_maps(results_dir: Path, experiment: str, rows: Sequence[dict[str, Any]]) -> list[FeatureMap]:
    """A map of each trial, by its row in the results table, whose features were kept."""
    kept = [(row, features_file(results_dir, experiment, row["trial"])) for row in rows]
    return [_feature_map(row, pq.read_table(file)) for row, file in kept if file.exists()]


def _feature_map(row: dict[str, Any], table: pa.Table) -> FeatureMap:
    from longtail.training.features import tsne_map  # torch and scikit-learn are for who has a map to make

    features = table[FEATURES].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    title = f"{', '.join(row['levels'].values())}, seed {row['seed']}"
    places = tsne_map(features, seed=0)
    return FeatureMap(title, places, table[LABEL].to_numpy(), row["class_names"], row["shot_groups"])
