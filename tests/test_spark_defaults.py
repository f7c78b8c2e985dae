"""The settings to start from (conf/spark-defaults/): each explained, and known to Spark."""

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.spark_defaults import SPARK_DEFAULTS, marked_settings, settings

GPU_SETTING = re.compile(r"spark\.(executor|task)\.resource\.gpu\.(amount|vendor|discoveryScript)")
FILES = sorted(SPARK_DEFAULTS.glob("*.conf"))


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
def test_spark_knows_every_setting_behind_a_mark_or_not(spark: SparkSession, file: Path) -> None:
    """Those of volumes it only knows by their beginning: tests/test_kubernetes.py sees what it makes of them."""
    jvm = spark.sparkContext._jvm
    # Entries register when the object that defines them is loaded.
    jvm.java.lang.Class.forName("org.apache.spark.deploy.k8s.Config$")
    jvm.java.lang.Class.forName("org.apache.spark.deploy.yarn.config.package$")
    entries = jvm.org.apache.spark.internal.config.ConfigEntry
    keys = [*dict(settings(file)), *marked_settings(file)]
    unknown = [
        key
        for key in keys
        if entries.findEntry(key) is None and not GPU_SETTING.fullmatch(key) and ".volumes." not in key
    ]
    assert unknown == [key for key in keys if key == "spark.master"]  # it has no entry


@pytest.mark.parametrize("name", ["kubernetes", "standalone-gpu", "yarn"])
def test_executors_ask_for_a_gpu_as_their_cluster_manager_wants_it(spark: SparkSession, name: str) -> None:
    """A standalone worker finds the GPUs itself, Kubernetes alone needs the vendor, on YARN the script is a file."""
    file = SPARK_DEFAULTS / f"{name}.conf"
    resource, jvm = spark.sparkContext._jvm.org.apache.spark.resource, spark.sparkContext._jvm
    conf = jvm.org.apache.spark.SparkConf(False)
    for key, value in [*settings(file), *marked_settings(file).items()]:
        conf.set(key, value)
    request = resource.ResourceUtils.parseResourceRequest(conf, resource.ResourceID("spark.executor", "gpu"))
    script, vendor = request.discoveryScript().orElse(None), request.vendor().orElse(None)
    assert request.amount() == 1
    assert (script, vendor) == {
        "kubernetes": ("/opt/longtail/conf/spark-defaults/gpu_discovery.sh", "nvidia.com"),
        "standalone-gpu": (None, None),
        "yarn": ("./gpu_discovery.sh", None),
    }[name]
    if name == "yarn":
        assert (SPARK_DEFAULTS.parent.parent / conf.get("spark.files")).name == "gpu_discovery.sh"
        assert (SPARK_DEFAULTS.parent.parent / conf.get("spark.files")).is_file()


def test_memory_outside_the_heap_is_asked_for_where_the_cluster_manager_knows_it() -> None:
    """Kubernetes and YARN end a container that takes more than heap and overhead; a standalone worker knows none."""
    overhead = {file.stem: [key for key, _ in settings(file) if "verhead" in key] for file in FILES}
    both = ["spark.executor.memoryOverhead", "spark.driver.memoryOverhead"]
    assert overhead == {"kubernetes": both, "yarn": both, "standalone-gpu": [], "local": []}
