"""Jars from Maven Central for the real servers that tests start, by the Ivy that Spark brings."""

import subprocess
import uuid
from pathlib import Path

import pyspark

SPARK_JARS = Path(pyspark.__file__).parent / "jars"


def fetched_jars(name: str, *request: object) -> Path:
    """A directory of jars that is fetched once for all tests of this user, like Spark's own packages.

    request: arguments of Ivy that say which jars
    """
    jars = Path.home() / ".ivy2" / f"longtail-test-{name}"
    if not jars.is_dir():
        fetched = jars.with_name(f"{jars.name}.{uuid.uuid4().hex}")
        pattern = f"{fetched}/[artifact]-[revision](-[classifier]).[ext]"
        command = [
            "java", "-cp", f"{SPARK_JARS}/*", "org.apache.ivy.Main", "-confs", "default", "-types", "jar", "bundle",
            *map(str, request), "-retrieve", pattern,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        fetched.rename(jars)
    return jars
