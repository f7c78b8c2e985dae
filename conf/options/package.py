"""The zip of longtail's own code."""

from pathlib import Path

from longtail.conf.options.base import JobOptions, option


class PackageOptions(JobOptions):
    """package: zip of longtail's own code, for --py-files."""

    output: Path = option(Path("longtail.zip"), "file to write")
