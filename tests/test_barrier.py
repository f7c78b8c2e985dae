"""The barrier stage (spark_jobs/cluster/barrier.py): ranks that meet, return in order, fail as one and leave no trace.

What runs in a rank is defined inside the tests: Spark ships such functions whole.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pyspark import SparkConf
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.barrier import (
    backend_of,
    check_allocation,
    num_slots,
    run_in_barrier_stage,
    stage_profile,
)
from longtail.spark_jobs.cluster.failures import user_message


@pytest.fixture(scope="module")
def two_ranks(spark: SparkSession) -> list[dict[str, Any]]:
    """What two ranks saw: the stage is run once, because each rank imports torch."""

    def rank_main(rank) -> dict[str, Any]:
        import torch
        import torch.distributed as dist

        values = torch.tensor([1.0 + rank.rank, 10.0])
        dist.all_reduce(values)
        own_sockets = {os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and f"socket:[{columns[9]}]" in own_sockets:
                    listening.append(columns[1].partition(":")[0])
        return {
            "rank": rank.rank,
            "world_size": rank.world_size,
            "backend": dist.get_backend(),
            "sum": values.tolist(),
            "listening": listening,
            "interface": os.environ.get("GLOO_SOCKET_IFNAME"),
            "pid": os.getpid(),
        }

    return run_in_barrier_stage(spark, rank_main, world_size=2, description="two ranks that meet")


def test_two_ranks_form_one_group_and_add_up(two_ranks: list[dict[str, Any]]) -> None:
    assert [seen["sum"] for seen in two_ranks] == [[1 + 2, 10 + 10]] * 2
    assert [seen["backend"] for seen in two_ranks] == ["gloo"] * 2
    assert two_ranks[0]["pid"] != two_ranks[1]["pid"]


def test_spark_s_ui_says_what_the_stage_is_for_and_then_what_the_job_is(
    spark: SparkSession, two_ranks: list[dict[str, Any]]
) -> None:
    spark.range(1).collect()
    java_context: Any = spark.sparkContext._jsc  # objects of the JVM have no static type
    jobs = java_context.sc().statusStore().jobsList(None)  # the newest first
    described = [jobs.apply(i).description() for i in range(jobs.size())]
    assert [text.get() for text in described if text.isDefined()].count("two ranks that meet") == 1
    assert described[0].get() == "longtail tests"


def test_results_come_in_rank_order(two_ranks: list[dict[str, Any]]) -> None:
    assert [(seen["rank"], seen["world_size"]) for seen in two_ranks] == [(0, 2), (1, 2)]


def test_ranks_of_one_machine_listen_on_loopback_only(two_ranks: list[dict[str, Any]]) -> None:
    # 127.0.0.1 as the kernel prints it, in the IPv4 and (mapped) in the IPv6 table.
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

    assert two_ranks[0]["listening"], "rank 0 serves the store"
    for seen in two_ranks:
        assert set(seen["listening"]) <= loopback


def test_environment_variables_are_put_back_in_reused_workers(
    spark: SparkSession, two_ranks: list[dict[str, Any]]
) -> None:
    def environment(batches):
        import pyarrow as pa
        from pyspark import BarrierTaskContext

        for _ in batches:
            pass
        BarrierTaskContext.get().barrier()  # four at once, so that no worker is left out
        yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "value": [os.environ.get("GLOO_SOCKET_IFNAME")]})

    slots = spark.range(0, 4, 1, numPartitions=4)
    after = slots.mapInArrow(environment, "pid long, value string", barrier=True).collect()

    assert [seen["interface"] for seen in two_ranks] == ["lo"] * 2
    assert {seen["pid"] for seen in two_ranks} <= {row.pid for row in after}, "Spark reused no worker: nothing is seen"
    assert [row.value for row in after] == [None] * 4


def test_one_rank_needs_no_group(spark: SparkSession) -> None:
    def rank_main(rank) -> dict[str, Any]:
        import torch.distributed as dist

        return {"rank": rank.rank, "world_size": rank.world_size, "grouped": dist.is_initialized()}

    seen = run_in_barrier_stage(spark, rank_main, world_size=1, description="one rank")

    assert seen == [{"rank": 0, "world_size": 1, "grouped": False}]


def test_a_rank_says_on_request_when_it_begins_and_ends(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_barrier_stage(spark, lambda rank: {}, world_size=1, description="silent")
    run_in_barrier_stage(spark, lambda rank: {}, world_size=1, description="verbose", verbose=True)

    said, deadline = "", time.monotonic() + 30
    while "ends" not in said:  # it comes by way of the JVM
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
        said += capsys.readouterr().err
    begins, ends = (line for line in said.splitlines() if line.startswith("rank "))
    assert re.fullmatch(r"rank 0 of 1: process \d+ on \S+, device cpu, begins", begins)
    assert ends == "rank 0 of 1: ends"


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failing_rank_ends_its_blocked_peer_and_its_error_is_the_one_told(spark: SparkSession, failing: int) -> None:
    """The rank that holds the store, and one that does not. The peer's lost connection must not be told instead.

    The second of the two also shows that the session runs the next stage after a failed one.
    """

    def rank_main(rank) -> dict[str, Any]:
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.ones(1))  # both are well under way
        if rank.rank == failing:
            raise UserError(f"rank {failing} cannot go on: lower --lr (it is 0.1)")
        dist.all_reduce(torch.ones(1))  # never answered
        return {}

    started = time.monotonic()
    with pytest.raises(Exception, match="cannot go on") as error:
        run_in_barrier_stage(spark, rank_main, world_size=2, description="failing")

    assert time.monotonic() - started < 30
    assert user_message(error.value) == f"rank {failing} cannot go on: lower --lr (it is 0.1)"


def test_a_lost_connection_is_not_told_before_the_error_that_ended_the_peer(spark: SparkSession) -> None:
    """The JVM may be slow to read that error, and the peer's lost connection then reaches it first."""

    def rank_main(rank) -> dict[str, Any]:
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.ones(1))
        if rank.rank == 0:
            dist.destroy_process_group()
            time.sleep(2)
            raise UserError("rank 0 cannot go on")
        dist.all_reduce(torch.ones(1))  # fails at once
        return {}

    with pytest.raises(Exception, match="cannot go on") as error:
        run_in_barrier_stage(spark, rank_main, world_size=2, description="failing")

    assert user_message(error.value) == "rank 0 cannot go on"


@pytest.mark.parametrize(
    ("place", "named"), [("s3a://bucket/set", "org.apache.hadoop.fs.s3a.S3AFileSystem"), ("s3://bucket/set", "s3://")]
)
def test_a_store_that_spark_has_no_driver_for_is_one_line(spark: SparkSession, place: str, named: str) -> None:
    with pytest.raises(Exception, match="bucket|FileSystem") as error:
        spark.read.parquet(place)

    message = user_message(error.value)
    assert message is not None and message.startswith(f"Spark has no driver for {named}: name its package in spark-")


def test_ranks_on_gpus_talk_by_nccl_and_others_by_gloo() -> None:
    assert backend_of(torch.device("cuda", 3)) == "nccl"
    assert backend_of(torch.device("cpu")) == "gloo"


def test_executors_without_gpus_need_no_profile(spark: SparkSession) -> None:
    assert stage_profile(spark) is None


def test_too_few_slots_are_said_at_once(spark: SparkSession) -> None:
    assert num_slots(spark) == 4

    started = time.monotonic()
    with pytest.raises(UserError) as error:
        run_in_barrier_stage(spark, lambda rank: {}, world_size=5, description="too many")

    assert time.monotonic() - started < 5
    assert str(error.value) == (
        "5 tasks must run at once, local[4] has 4 slots: lower --world_size or give a larger master "
        "(for one machine: --master 'local[5]')"
    )


@pytest.mark.parametrize("value", ["true", "TRUE "])
def test_executors_that_come_and_go_are_refused_by_the_name_of_the_setting(value: str) -> None:
    settings = SparkConf(loadDefaults=False).set("spark.dynamicAllocation.enabled", value)
    with pytest.raises(UserError, match="dynamicAllocation.enabled is true, .*: set it to false .*executor.instances"):
        check_allocation(settings)
    check_allocation(settings.set("spark.dynamicAllocation.enabled", "false"))
    check_allocation(SparkConf(loadDefaults=False))
