"""Trainings of an experiment that run in one process at the same time (training/side_by_side.py).

It is a head start: a training that fails here is run by itself afterwards, which resumes it, retries it, or says what
is wrong.
"""

import time
from collections.abc import Sequence

from pyspark.sql import SparkSession

from longtail.conf.options.studies import SIDE_BY_SIDE_ON_A_GPU
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.steps.side_by_side import PlannedTraining, train_side_by_side
from longtail.spark_jobs.studies.planned import SET, PlannedStep
from longtail.spark_jobs.studies.run_step import Outputs


def group_size(spark: SparkSession, given: int | None) -> int:
    """How many trainings of one rank share a process. given: by the user; None for the default on this machine"""
    if not is_local(spark.sparkContext.master):
        return 1
    if given is not None:
        return given
    import torch  # the driver needs it for this question alone

    return SIDE_BY_SIDE_ON_A_GPU if torch.cuda.is_available() else 1


def train_group(spark: SparkSession, steps: Sequence[PlannedStep], outputs: Outputs) -> dict[str, float]:
    """Train those of the steps that are not finished; equal shares of the time, by step_id.

    steps: trainings of one rank, whose inputs are among the outputs
    """
    trainings = {step.step_id: training for step in steps if (training := _unfinished(step, outputs)) is not None}
    started = time.perf_counter()
    train_side_by_side(spark, list(trainings.values()))
    return dict.fromkeys(trainings, (time.perf_counter() - started) / max(1, len(trainings)))


def _unfinished(step: PlannedStep, outputs: Outputs) -> PlannedTraining | None:
    paths = {name: outputs[other.step_id].path for name, other in step.inputs.items()}
    set_dir = paths.pop(SET)
    options = step.options(**paths)
    assert isinstance(options, RunOptions), "a training"
    training = PlannedTraining(options, set_dir, paths.get("pseudo_labels"))
    return None if training.is_finished else training
