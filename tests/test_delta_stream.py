"""`longtail predict --stream` of a Delta table: followed where Delta's connector fits the Spark in use, else refused.

tests/test_package.py runs the first test too, with the lowest versions, whose Spark has a connector.
"""

import io
from pathlib import Path

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from PIL import Image

from longtail.conf.options.training import TrainOptions
from longtail.data.delta import DELTA_CONNECTORS, delta_connector
from longtail.training.run import run_training
from tests.conftest import RunJob
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

HAS_CONNECTOR = pyspark.__version__.startswith(tuple(f"{release}." for release in DELTA_CONNECTORS))


def rows(*keys: int) -> pa.Table:
    """Grey images of noise, with a key."""
    files = []
    for key in keys:
        content = io.BytesIO()
        Image.fromarray(np.random.default_rng(key).integers(0, 256, (8, 8), dtype=np.uint8)).save(content, "PNG")
        files.append(content.getvalue())
    return pa.table({"key": list(keys), "image": files})


@pytest.mark.skipif(not HAS_CONNECTOR, reason="Delta's connector does not fit this Spark")
@pytest.mark.usefixtures("one_thread")
def test_a_table_that_grows_is_predicted_row_by_row_and_each_row_once(longtail: RunJob, tmp_path: Path) -> None:
    paths = paths_of(write_tiny_set(tmp_path / "set"), tmp_path / "run")
    run_training(tiny_options(TrainOptions), paths, ALONE, attempt=1)
    checkpoint, inbox = paths.run_dir / "ckpt.pth.tar", str(tmp_path / "inbox")
    stream = ["predict", "--resume", checkpoint, "--path", inbox, "--output", "out", "--stream", "--once"]

    deltalake.write_deltalake(inbox, rows(0, 1, 2))
    first = longtail(*stream, "--master", "local[1]")
    assert first.returncode == 0 and "3 images predicted" in first.stdout, first.stderr
    # What is rewritten or deleted is not new.
    deltalake.write_deltalake(inbox, rows(3, 4), mode="append")
    deltalake.DeltaTable(inbox).delete("key = 1")
    deltalake.DeltaTable(inbox).optimize.compact()
    second = longtail(*stream, "--master", "local[1]")
    assert second.returncode == 0 and "2 images predicted" in second.stdout, second.stderr

    found = pq.read_table(tmp_path / "out")
    assert sorted(found["key"].to_pylist()) == [0, 1, 2, 3, 4]
    assert found["arrived_at"].null_count == found["class_name"].null_count == 0


@pytest.mark.skipif(HAS_CONNECTOR, reason="Delta's connector fits this Spark")
def test_without_a_connector_for_this_spark_it_is_refused_before_spark_starts(longtail: RunJob, tmp_path: Path) -> None:
    deltalake.write_deltalake(str(tmp_path / "inbox"), rows(0))
    (tmp_path / "ckpt.pth.tar").touch()
    done = longtail("predict", "--resume", "ckpt.pth.tar", "--path", "inbox", "--output", "out", "--stream", "--once")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"is a Delta table, which --stream does not follow with Spark {pyspark.__version__}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_each_version_of_spark_has_the_connector_that_is_made_for_it(tmp_path: Path) -> None:
    assert delta_connector(tmp_path, "4.1.4") == "io.delta:delta-spark_4.1_2.13:4.4.0"
    assert delta_connector(tmp_path, "4.2.0") == "io.delta:delta-spark_4.2_2.13:4.4.0"
    for release in ("4.3.0", "4.10.0", "5.0.0"):
        with refused() as messages:
            delta_connector(tmp_path, release)
        assert (
            f"with Spark {release}: Delta's connector for Spark, which that needs, is for Spark 4.1 and 4.2."
            in (messages[0])
        )
