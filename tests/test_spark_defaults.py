"""The settings to start from (conf/spark-defaults/): each explained, and known to Spark."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "conf" / "spark-defaults").glob("*.conf"))


def settings(file: Path) -> list[tuple[str, str]]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_there_is_a_file_for_every_kind_of_cluster() -> None:
    assert [file.stem for file in FILES] == ["kubernetes", "local", "standalone-gpu", "yarn"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_group_of_settings_begins_with_what_it_is_for(file: Path) -> None:
    before = ""
    for line in file.read_text().splitlines():
        is_setting = bool(line) and not line.startswith("#")
        assert not is_setting or before, f"nothing explains {line}"
        before = line
    assert len(settings(file)) == len(dict(settings(file))) > 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_spark_knows_every_setting(spark: SparkSession, file: Path) -> None:
    """Those for the volumes and resources of a name of the user's own it only knows by their beginning."""
    jvm = spark.sparkContext._jvm
    # Entries register when the object that defines them is loaded.
    jvm.java.lang.Class.forName("org.apache.spark.deploy.k8s.Config$")
    jvm.java.lang.Class.forName("org.apache.spark.deploy.yarn.config.package$")
    entries = jvm.org.apache.spark.internal.config.ConfigEntry
    named_by_user = (".resource.gpu.", ".volumes.")
    unknown = [
        key
        for key, _ in settings(file)
        if entries.findEntry(key) is None and not any(part in key for part in named_by_user)
    ]
    assert unknown == [key for key, _ in settings(file) if key == "spark.master"]  # it has no entry
