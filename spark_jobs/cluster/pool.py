"""Several trainings on one cluster: independent barrier stages side by side, as its slots allow.

    outcomes = run_trials(spark, [Trial("seed 0", 2, run_seed_0), Trial("seed 1", 2, run_seed_1)])

A barrier stage needs all its slots at once. Here a trial starts only when they are
free, so stages never wait for each other holding some; one that could never start
is refused before any does. Each trial has a thread and a FAIR scheduler pool of
its own in the one Spark session.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.barrier import num_slots as slots_of_cluster

CANCEL_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Trial(Generic[T]):
    """One training among several.

    name: tells it apart, and names its scheduler pool in Spark's UI
    num_slots: tasks that it runs at the same time
    run: called in a thread of its own; what it starts on Spark is cancelled if the whole is interrupted
    """

    name: str
    num_slots: int
    run: Callable[[], T]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How a trial ended: what it returned, or what it raised."""

    name: str
    value: T | None = None
    error: Exception | None = None


def run_trials(
    spark: SparkSession,
    trials: Sequence[Trial[T]],
    *,
    num_slots: int | None = None,
    on_outcome: Callable[[Outcome[T]], None] = lambda outcome: None,
) -> list[Outcome[T]]:
    """Run all trials; their outcomes in the order of the trials. One that fails takes no other down.

    The first in the list that fits what is free starts next.

    num_slots: how many tasks all may run at once; None: as many as the cluster can
    on_outcome: called in this thread when a trial has ended

    Raises UserError at once if a trial asks for more. An interruption (Ctrl-C) cancels all and is raised again.
    """
    assert len({trial.name for trial in trials}) == len(trials), "the names of trials are different"
    free = slots_of_cluster(spark) if num_slots is None else num_slots
    if too_large := [trial for trial in trials if trial.num_slots > free]:
        asked = ", ".join(f"{trial.name} ({trial.num_slots})" for trial in too_large)
        raise UserError(
            f"{free} tasks can run at once on {spark.sparkContext.master}, more are asked by {asked}: "
            "lower --world_size or give a larger master"
        )
    tag = f"trials-{uuid.uuid4().hex}"
    waiting = list(trials)
    running: dict[str, Thread] = {}
    ended: SimpleQueue[Outcome[T]] = SimpleQueue()
    outcomes: dict[str, Outcome[T]] = {}
    try:
        while waiting or running:
            while (next_trial := next((trial for trial in waiting if trial.num_slots <= free), None)) is not None:
                waiting.remove(next_trial)
                free -= next_trial.num_slots
                running[next_trial.name] = _start(spark, next_trial, tag, ended)
            outcome = ended.get()
            running.pop(outcome.name).join()
            free += next(trial.num_slots for trial in trials if trial.name == outcome.name)
            outcomes[outcome.name] = outcome
            on_outcome(outcome)
    except BaseException:
        _cancel(spark, tag, list(running.values()))
        raise
    return [outcomes[trial.name] for trial in trials]


def _start(spark: SparkSession, trial: Trial[T], tag: str, ended: "SimpleQueue[Outcome[T]]") -> Thread:
    def run() -> None:
        context = spark.sparkContext
        # Both are of this thread alone.
        context.setLocalProperty("spark.scheduler.pool", trial.name)
        context.addJobTag(tag)
        try:
            ended.put(Outcome(trial.name, value=trial.run()))
        except Exception as error:
            ended.put(Outcome(trial.name, error=error))

    thread = InheritableThread(run, name=trial.name, daemon=True)
    thread.start()
    return thread


def _cancel(spark: SparkSession, tag: str, threads: Sequence[Thread]) -> None:
    """End what runs. Again and again, because a training whose stage is cancelled may start another one."""
    for thread in threads:
        while thread.is_alive():
            spark.sparkContext.cancelJobsWithTag(tag)
            thread.join(CANCEL_SECONDS)
