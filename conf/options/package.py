"""The zip of longtail's own code."""

from pathlib import Path

from longtail.conf.options.base import JobOptions, option


class PackageOptions(JobOptions):
    """package: zip of longtail's own code, for spark-submit --py-files."""

    examples = (("--output longtail.zip", "then: spark-submit --py-files longtail.zip spark_jobs/train.py"),)

    output: Path = option(Path("longtail.zip"), "file to write", group="Output")
