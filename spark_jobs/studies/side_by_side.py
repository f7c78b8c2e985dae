"""Trainings of an experiment that run in one process at the same time (training/side_by_side.py).

It is a head start: a training that fails here, or is not for one process alone, is run by itself afterwards, which
resumes it, retries it, or says what is wrong.
"""

import time
from collections.abc import Sequence

from pyspark.sql import SparkSession

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.studies import SIDE_BY_SIDE_ON_A_GPU
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.steps.side_by_side import PlannedTraining, train_side_by_side
from longtail.spark_jobs.studies.planned import SET, PlannedStep
from longtail.spark_jobs.studies.run_step import Outputs


def train_in_groups(
    spark: SparkSession, steps: Sequence[PlannedStep], outputs: Outputs, *, size: int | None
) -> dict[str, float]:
    """Train those of the steps that are trainings of one rank, `size` at a time; equal shares of the time, by step_id.

    size: None for the default on this machine
    """
    if not is_local(spark.sparkContext.master):
        return {}
    size = size or _default_size()
    trainings = {step.step_id: training for step in steps if (training := _training(step, outputs)) is not None}
    seconds: dict[str, float] = {}
    ids = list(trainings)
    for first in range(0, len(ids) if size > 1 else 0, size):
        group = ids[first : first + size]
        started = time.perf_counter()
        train_side_by_side(spark, [trainings[step_id] for step_id in group])
        seconds |= dict.fromkeys(group, (time.perf_counter() - started) / len(group))
    return seconds


def _default_size() -> int:
    import torch  # the driver needs it for this question alone

    return SIDE_BY_SIDE_ON_A_GPU if torch.cuda.is_available() else 1


def _training(step: PlannedStep, outputs: Outputs) -> PlannedTraining | None:
    """None for another job, for several ranks, for rounds of self-training, and for a finished run."""
    paths = {name: outputs[other.step_id].path for name, other in step.inputs.items()}
    set_dir = paths.pop(SET, None)
    options = step.options(**paths)
    if set_dir is None or not isinstance(options, RunOptions) or options.world_size > 1:
        return None
    if isinstance(options, TrainSemiOptions) and options.rounds > 1:
        return None
    training = PlannedTraining(options, set_dir, paths.get("pseudo_labels"))
    return None if training.is_finished else training
