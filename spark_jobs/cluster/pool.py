"""Independent workloads side by side on one cluster, as its slots allow.

    outcomes = run_workloads(spark, [Workload("seed 0", 2, run_seed_0), Workload("seed 1", 2, run_seed_1)])

A barrier stage needs all its slots at once. Here a workload starts only when they are
free, so no stage holds slots while it waits for others; a workload that could never
start is refused before any starts. It may also wait for the end of others. Each
workload has its own thread and FAIR scheduler pool in the one Spark session.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.barrier import num_slots as slots_of_cluster
from longtail.spark_jobs.cluster.session import larger_master

CANCEL_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Workload(Generic[T]):
    """Work that needs a number of slots at the same time, such as a training in a barrier stage.

    name: unique among the workloads; names the scheduler pool in Spark's UI
    num_slots: tasks that run at the same time
    run: called in a thread of its own; its Spark jobs are cancelled if run_workloads is interrupted
    after: names of workloads before it that must have ended, well or not
    """

    name: str
    num_slots: int
    run: Callable[[], T]
    after: Collection[str] = ()


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The value that a workload returned, or the exception that it raised."""

    name: str
    value: T | None = None
    error: Exception | None = None


def run_workloads(
    spark: SparkSession,
    workloads: Sequence[Workload[T]],
    *,
    num_slots: int | None = None,
    on_outcome: Callable[[Outcome[T]], None] = lambda outcome: None,
) -> list[Outcome[T]]:
    """Run all workloads; return their outcomes in the same order. A failure does not stop the others.

    The first waiting workload that fits the free slots, and that waits for no other, starts next.

    num_slots: tasks that may run at the same time in total; None: all slots of the cluster
    on_outcome: called in this thread whenever a workload has ended

    Raises UserError at once if a workload needs more slots. An interruption (Ctrl-C) cancels all and is raised again.
    """
    names: set[str] = set()
    for workload in workloads:
        assert workload.name not in names, "names of workloads are unique"
        assert names.issuperset(workload.after), "a workload waits for those before it"
        names.add(workload.name)
    free = slots_of_cluster(spark) if num_slots is None else num_slots
    if too_large := [workload for workload in workloads if workload.num_slots > free]:
        needs = ", ".join(f"{workload.name} ({workload.num_slots})" for workload in too_large)
        raise UserError(
            f"{free} tasks can run at the same time on {spark.sparkContext.master}, more are needed by {needs}: "
            f"lower --world_size or {larger_master(spark, max(workload.num_slots for workload in too_large))}"
        )
    tag = f"workloads-{uuid.uuid4().hex}"
    waiting = list(workloads)
    running: dict[str, Thread] = {}
    ended: SimpleQueue[Outcome[T]] = SimpleQueue()
    outcomes: dict[str, Outcome[T]] = {}
    try:
        while waiting or running:
            while (following := next(_startable(waiting, outcomes, free), None)) is not None:
                waiting.remove(following)
                free -= following.num_slots
                running[following.name] = _start(spark, following, tag, ended)
            outcome = ended.get()
            running.pop(outcome.name).join()
            free += next(workload.num_slots for workload in workloads if workload.name == outcome.name)
            outcomes[outcome.name] = outcome
            on_outcome(outcome)
    except BaseException:
        _cancel(spark, tag, list(running.values()))
        raise
    return [outcomes[workload.name] for workload in workloads]


def _startable(waiting: Sequence[Workload[T]], ended: Collection[str], free: int) -> Iterator[Workload[T]]:
    return (one for one in waiting if one.num_slots <= free and all(name in ended for name in one.after))


def _start(spark: SparkSession, workload: Workload[T], tag: str, ended: "SimpleQueue[Outcome[T]]") -> Thread:
    def run() -> None:
        context = spark.sparkContext
        # Both apply to this thread only.
        context.setLocalProperty("spark.scheduler.pool", workload.name)
        context.addJobTag(tag)
        try:
            ended.put(Outcome(workload.name, value=workload.run()))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the workload gets it
            ended.put(Outcome(workload.name, error=error))

    thread = InheritableThread(run, name=workload.name, daemon=True)
    thread.start()
    return thread


def _cancel(spark: SparkSession, tag: str, threads: Sequence[Thread]) -> None:
    """Cancel until all threads have ended: a training whose stage is cancelled may start another one."""
    for thread in threads:
        while thread.is_alive():
            spark.sparkContext.cancelJobsWithTag(tag)
            thread.join(CANCEL_SECONDS)
