"""Several workloads in one session (spark_jobs/cluster/pool.py): real barrier stages in a session of four slots."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.pool import Outcome, Workload, run_workloads


def barrier_workload(
    spark: SparkSession, name: str, num_slots: int, place: Path, *, seconds: float
) -> Workload[list[float]]:
    """A barrier stage whose tasks leave a file as long as they run: how many there are tells how many run at once."""

    def task(batches):
        import os
        import time

        import pyarrow as pa
        from pyspark import BarrierTaskContext

        for _ in batches:
            pass
        context = BarrierTaskContext.get()
        mine = os.path.join(place, f"{name}-{context.partitionId()}")
        open(mine, "w").close()
        most = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            most = max(most, len(os.listdir(place)))
            time.sleep(0.02)
        os.remove(mine)
        yield pa.RecordBatch.from_pydict({"most": [most]})

    def run() -> list[float]:
        numbers = spark.range(0, num_slots, 1, numPartitions=num_slots)
        return [row.most for row in numbers.mapInArrow(task, "most long", barrier=True).collect()]

    return Workload(name, num_slots, run)


def test_workloads_run_side_by_side_but_never_in_more_slots_than_there_are(spark: SparkSession, tmp_path: Path) -> None:
    """The first three take 1 + 2 + 1 slots together; the fourth, of four slots, must wait for all of them."""
    sizes = {"one": 1, "two": 2, "another": 1, "four": 4}
    told: list[str] = []
    outcomes = run_workloads(
        spark,
        [barrier_workload(spark, name, size, tmp_path, seconds=1) for name, size in sizes.items()],
        on_outcome=lambda outcome: told.append(outcome.name),
    )
    assert [outcome.name for outcome in outcomes] == list(sizes)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert [len(outcome.value) for outcome in outcomes] == list(sizes.values())
    assert max(most for outcome in outcomes for most in outcome.value) == 4
    assert all(most == 4 for outcome in outcomes[:3] for most in outcome.value), "they ran one after the other"
    assert sorted(told) == sorted(sizes) and told[-1] == "four"


def test_a_small_workload_starts_before_a_large_one_that_does_not_fit_yet(spark: SparkSession) -> None:
    """Two slots of three are taken: the next has to wait, the one after it need not."""
    done = {name: threading.Event() for name in ("large", "small")}

    def first() -> str:
        assert done["small"].wait(20), "the small one never ran beside this"
        return "first"

    def note(name: str) -> Callable[[], str]:
        def run() -> str:
            done[name].set()
            return name

        return run

    workloads = [Workload("first", 2, first), Workload("large", 2, note("large")), Workload("small", 1, note("small"))]
    assert [outcome.value for outcome in run_workloads(spark, workloads, num_slots=3)] == ["first", "large", "small"]


def test_a_workload_waits_for_the_end_of_others_while_later_ones_run(spark: SparkSession) -> None:
    """Of two slots, the second one is used meanwhile; a failure ends the waiting as well."""
    ran: list[str] = []
    independent_ran = threading.Event()

    def first() -> None:
        assert independent_ran.wait(20), "the other slot stayed free"
        ran.append("first")
        raise UserError("failed")

    def independent() -> None:
        ran.append("independent")
        independent_ran.set()

    workloads = [
        Workload("first", 1, first),
        Workload("dependent", 1, lambda: ran.append("dependent"), after=["first"]),
        Workload("independent", 1, independent),
    ]
    outcomes = run_workloads(spark, workloads, num_slots=2)
    assert ran == ["independent", "first", "dependent"]
    assert [outcome.error is None for outcome in outcomes] == [False, True, True]


def test_a_workload_that_can_never_fit_is_refused_before_any_starts(spark: SparkSession) -> None:
    started = []
    workloads = [
        Workload("fits", 4, lambda: started.append("fits")),
        Workload("seed 1", 8, lambda: started.append("seed 1")),
    ]
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        run_workloads(spark, workloads)
    assert time.monotonic() - began < 5
    assert str(error.value) == (
        "4 tasks can run at the same time on local[4], more are needed by seed 1 (8): "
        "lower --world_size or give a larger master (for one machine: --master 'local[8]')"
    )
    assert started == []


def test_a_workload_that_fails_takes_no_other_down(spark: SparkSession, tmp_path: Path) -> None:
    def rank_main(rank) -> dict:
        raise UserError("the training loss became nan")

    def fail() -> list[float]:
        return run_in_barrier_stage(spark, rank_main, world_size=1, description="failing")

    workloads = [Workload("bad", 1, fail), barrier_workload(spark, "good", 2, tmp_path, seconds=0.1)]
    bad, good = run_workloads(spark, workloads)
    assert "the training loss became nan" in str(bad.error) and bad.value is None
    assert good == Outcome("good", value=good.value) and len(good.value) == 2


def test_an_interruption_ends_all_workloads_those_that_try_again_too(spark: SparkSession, tmp_path: Path) -> None:
    attempts: list[str] = []

    def stubborn(workload: Workload) -> Workload:
        def run() -> list[float]:
            for _ in range(2):
                attempts.append(workload.name)
                try:
                    return workload.run()
                except Exception as error:  # whatever a cancelled stage raises
                    last = error
            raise last

        return Workload(workload.name, workload.num_slots, run)

    workloads = [stubborn(barrier_workload(spark, name, 2, tmp_path, seconds=300)) for name in ("a", "b", "c")]

    def press_ctrl_c() -> None:
        while len(list(tmp_path.iterdir())) < 4:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_workloads(spark, workloads)

    assert "c" not in attempts, "a workload began after the interruption"
    deadline = time.monotonic() + 20
    while spark.sparkContext.statusTracker().getActiveJobsIds():
        assert time.monotonic() < deadline, "a job still runs"
        time.sleep(0.1)
    assert not [thread for thread in threading.enumerate() if thread.name in ("a", "b", "c")]
