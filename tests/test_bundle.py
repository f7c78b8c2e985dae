"""Several tables by one action (streaming/live/bundle.py)."""

import pyarrow as pa
from pyspark.sql import SparkSession

from longtail.streaming.live.bundle import bundled, unbundled
from tests.frames import frame_of

SCHEMAS = {
    "counts": pa.schema([("run", pa.string()), ("count", pa.int64())]),
    "scores": pa.schema([("score", pa.float64()), ("run", pa.string())]),
    "nothing": pa.schema([("count", pa.int64())]),
}


def test_each_table_comes_out_as_it_went_in(spark: SparkSession) -> None:
    counts = frame_of(spark, [("a", 1), (None, None)], "run STRING, count BIGINT")
    scores = frame_of(spark, [(0.5, "a")], "score DOUBLE, run STRING")
    nothing = counts.where("false").select("count")

    found = unbundled(bundled(counts=counts, scores=scores, nothing=nothing).toArrow(), SCHEMAS)

    assert {name: table.schema for name, table in found.items()} == SCHEMAS
    assert sorted(found["counts"].to_pylist(), key=str) == [{"run": "a", "count": 1}, {"run": None, "count": None}]
    assert found["scores"].to_pylist() == [{"score": 0.5, "run": "a"}]
    assert found["nothing"].to_pylist() == []
