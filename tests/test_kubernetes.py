"""The pods that Spark makes of conf/spark-defaults/kubernetes.conf and conf/kubernetes/, without a cluster."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from pyspark import SparkContext
from pyspark.sql import SparkSession

from tests.conftest import REPOSITORY
from tests.spark_defaults import SPARK_DEFAULTS, marked_settings, settings

KUBERNETES_VERSION = "1.34"
FILE = SPARK_DEFAULTS / "kubernetes.conf"
TEMPLATE = REPOSITORY / "conf" / "kubernetes" / "pod-template.yaml"
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=["CPU", "GPU"])
def pods(spark: SparkSession, request: pytest.FixtureRequest) -> dict[str, Manifest]:
    """The pods of driver and executor, as they are sent to Kubernetes, without and with the settings for GPUs."""
    given = dict(settings(FILE)) | (marked_settings(FILE) if request.param == "GPU" else {})
    context = spark.sparkContext
    return {"driver": driver_pod(context, given), "executor": executor_pod(context, given)}


def driver_pod(context: SparkContext, given: Mapping[str, str]) -> Manifest:
    jvm, k8s = context._jvm, context._jvm.org.apache.spark.deploy.k8s
    script = k8s.submit.PythonMainAppResource("local:///opt/longtail/spark_jobs/train.py")
    arguments, runner = context._gateway.new_array(jvm.String, 0), "org.apache.spark.deploy.PythonRunner"
    conf = k8s.KubernetesConf.createDriverConf(spark_conf(jvm, given), "spark-1", script, runner, arguments, none(jvm))
    with kubernetes_client(jvm) as client:
        return manifest(jvm, k8s.submit.KubernetesDriverBuilder().buildFromFeatures(conf, client).pod())


def executor_pod(context: SparkContext, given: Mapping[str, str]) -> Manifest:
    jvm = context._jvm
    spark = jvm.org.apache.spark
    settings_of_driver = {"spark.driver.host": "driver", "spark.driver.port": "7078"}
    conf = spark_conf(jvm, {**given, **settings_of_driver})
    of_executor = spark.deploy.k8s.KubernetesConf.createExecutorConf(conf, "1", "spark-1", none(jvm), 0)
    manager = spark.SecurityManager
    security = manager(conf, none(jvm), getattr(manager, "$lessinit$greater$default$3")())
    # Spark keeps one default profile for the whole process, here that of the tests' session.
    profiles = getattr(getattr(spark.resource, "ResourceProfile$"), "MODULE$")
    try:
        profile = profiles.reInitDefaultProfile(conf) or profiles.getOrCreateDefaultProfile(conf)
        with kubernetes_client(jvm) as client:
            builder = spark.scheduler.cluster.k8s.KubernetesExecutorBuilder()
            return manifest(jvm, builder.buildFromFeatures(of_executor, security, client, profile).pod())
    finally:
        profiles.reInitDefaultProfile(context._jsc.sc().getConf())


def spark_conf(jvm: Any, given: Mapping[str, str]) -> Any:
    conf = jvm.org.apache.spark.SparkConf(False)
    for name, value in {"spark.master": "k8s://https://127.0.0.1:6443", "spark.app.name": "tests", **given}.items():
        conf.set(name, str(REPOSITORY / value) if name.endswith(".podTemplateFile") else value)
    return conf


def none(jvm: Any) -> Any:
    return getattr(getattr(jvm.scala, "None$"), "MODULE$")


@contextmanager
def kubernetes_client(jvm: Any) -> Iterator[Any]:
    """It only reads the template: nothing is sent."""
    client = jvm.io.fabric8.kubernetes.client.KubernetesClientBuilder().build()
    try:
        yield client
    finally:
        client.close()


def manifest(jvm: Any, pod: Any) -> Manifest:
    """What Kubernetes gets: Spark puts its container into the pod last."""
    as_json = jvm.io.fabric8.kubernetes.client.utils.Serialization.asJson
    whole = json.loads(as_json(pod.pod()))
    assert not whole["spec"].get("containers")
    whole["spec"]["containers"] = [json.loads(as_json(pod.container()))]
    return whole


def container(pod: Manifest) -> Manifest:
    (only,) = pod["spec"]["containers"]
    return only


def refusal(document: Manifest) -> str:
    """Of Kubernetes's own schema, in which unknown fields are errors; empty if it has none."""
    schemas = pytest.importorskip("kubernetes_validate", reason="the schema is of the extra [test]")
    try:
        schemas.validate(document, KUBERNETES_VERSION, strict=True)
    except schemas.ValidationError as error:
        return error.message
    return ""


@pytest.mark.parametrize("name", ["driver", "executor"])
def test_kubernetes_schema_accepts_the_pod_that_spark_makes(pods: dict[str, Manifest], name: str) -> None:
    assert refusal(pods[name]) == ""


def test_kubernetes_schema_accepts_the_template_and_refuses_misspelt_fields() -> None:
    text = TEMPLATE.read_text()
    assert refusal(yaml.safe_load(text)) == ""
    for field in ("runAsNonRoot", "mountPath", "sizeLimit", "volumeMounts", "emptyDir"):
        assert text.count(f"{field}:") == 1
        assert field[:-1] in refusal(yaml.safe_load(text.replace(f"{field}:", f"{field[:-1]}:")))
    assert "'yes'" in refusal(yaml.safe_load(text.replace("runAsNonRoot: true", "runAsNonRoot: 'yes'")))


@pytest.mark.parametrize("name", ["driver", "executor"])
def test_pods_have_the_volume_and_shared_memory_and_run_as_the_images_user(
    pods: dict[str, Manifest], name: str
) -> None:
    spec = pods[name]["spec"]
    assert container(pods[name])["name"] == "longtail"
    places = {mount["mountPath"]: mount["name"] for mount in container(pods[name])["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in json.loads(json.dumps(spec["volumes"]))}
    assert volumes[places["/dev/shm"]] == {"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
    assert volumes[places["/longtail"]]["persistentVolumeClaim"]["claimName"] == "longtail"
    assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 185, "fsGroup": 185}
    assert "--uid 185 " in (REPOSITORY / "conf" / "kubernetes" / "Dockerfile").read_text()
    assert spec["serviceAccountName"] == "spark"


def test_the_limit_of_memory_is_heap_and_overhead(pods: dict[str, Manifest]) -> None:
    limits = {name: container(pod)["resources"]["limits"]["memory"] for name, pod in pods.items()}
    assert limits == {"driver": f"{(2 + 4) * 1024}Mi", "executor": f"{(4 + 8) * 1024}Mi"}


def test_executors_own_a_gpu_where_the_settings_for_it_are_taken_and_the_driver_none(
    pods: dict[str, Manifest], request: pytest.FixtureRequest
) -> None:
    gpus = {name: container(pod)["resources"]["limits"].get("nvidia.com/gpu") for name, pod in pods.items()}
    assert gpus == {"driver": None, "executor": "1" if request.node.callspec.params["pods"] == "GPU" else None}


def test_the_image_gets_nothing_that_git_ignores() -> None:
    kept_out = {line.removeprefix("**/") for line in (REPOSITORY / ".dockerignore").read_text().splitlines()}
    ignored = {line.strip("/") for line in (REPOSITORY / ".gitignore").read_text().splitlines()}
    assert ignored <= kept_out
    # What docs/clusters.md makes in this directory: gigabytes.
    assert {"env", "environment.tar.gz", "longtail.zip"} <= kept_out
