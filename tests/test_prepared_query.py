"""A prepared query reads its inputs anew at every call, whatever Spark keeps of a plan."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.streaming.live.prepared import PreparedQuery

SCHEMA = pa.schema([("key", pa.int64()), ("value", pa.int64())])


def table(*rows: tuple[int, int]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def joined(left: DataFrame, right: DataFrame) -> DataFrame:
    """Broadcasts one side, or shuffles both."""
    return left.join(right.withColumnRenamed("value", "other"), "key").orderBy("key")


def summed(left: DataFrame, right: DataFrame) -> DataFrame:
    return left.unionByName(right).groupBy("key").sum("value").orderBy("key")


@pytest.mark.parametrize("query", [joined, summed])
def test_every_call_sees_its_own_inputs(spark: SparkSession, tmp_path: Path, query) -> None:
    prepared = PreparedQuery(spark, query, {"left": SCHEMA, "right": SCHEMA}, directory=tmp_path)
    assert prepared.keeps_exchanges or query is summed

    first = prepared(left=[table((1, 10))], right=[table((1, 5))])
    second = prepared(left=[table((1, 20)), table((2, 30))], right=[table((1, 6), (2, 7))])

    found = [[tuple(row.values()) for row in result.to_pylist()] for result in (first, second)]
    assert found == {joined: [[(1, 10, 5)], [(1, 20, 6), (2, 30, 7)]], summed: [[(1, 15)], [(1, 26), (2, 37)]]}[query]


def test_a_query_without_an_exchange_is_planned_once(spark: SparkSession, tmp_path: Path) -> None:
    calls = []

    def doubled(rows: DataFrame) -> DataFrame:
        calls.append(rows)
        return rows.selectExpr("key", "2 * value AS value")

    prepared = PreparedQuery(spark, doubled, {"rows": SCHEMA}, directory=tmp_path)
    assert prepared(rows=[table((1, 10))]).to_pylist() == [{"key": 1, "value": 20}]
    assert prepared(rows=[table((1, 30))]).to_pylist() == [{"key": 1, "value": 60}]
    assert len(calls) == 1 and not prepared.keeps_exchanges


def test_an_input_is_read_whole_however_long_it_has_become(spark: SparkSession, tmp_path: Path) -> None:
    prepared = PreparedQuery(spark, lambda rows: rows.groupBy().sum("key"), {"rows": SCHEMA}, directory=tmp_path)
    keys = range(1_000_000)
    found = prepared(rows=[pa.table({"key": keys, "value": keys}), table((1, 1))])
    assert found.to_pylist() == [{"sum(key)": 499_999_500_001}]
    assert prepared(rows=[table((7, 1))]).to_pylist() == [{"sum(key)": 7}]
