"""Zip Longtail's own code for a cluster that has its dependencies installed, but not Longtail.

    longtail package --output longtail.zip
    spark-submit spark_jobs/package.py --output longtail.zip

and then

    spark-submit --master spark://HOST:7077 --py-files longtail.zip spark_jobs/train.py --world_size 4 ...

The zip contains the code and its data files only. It takes precedence over an installed Longtail on the executors.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.paths import check_file_can_be_written
from longtail.conf.options.base import JobOptions, option
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.code_zip import write_code_zip


class PackageOptions(JobOptions):
    """package: zip of Longtail's own code, for spark-submit --py-files."""

    examples = (
        ("", "then: spark-submit --py-files longtail.zip spark_jobs/train.py"),
        ("--output build/longtail.zip", "the same, in another directory"),
    )

    output: Path = option(Path("longtail.zip"), "file to write", group="Output")


def main(argv: Sequence[str]) -> None:
    options = parse_options(PackageOptions, argv, prog="longtail package")
    if options.output.suffix != ".zip":
        raise UserError(f"--output {options.output} must end in .zip: Spark identifies the file by its extension")
    check_file_can_be_written(options.output, option="--output")
    write_code_zip(options.output)
    command = shlex.join(["spark-submit", "--py-files", str(options.output), str(Path(__file__).with_name("train.py"))])
    print(f"package: {options.output}\nnext: {command}\n(for a cluster: --master URL before --py-files)")


if __name__ == "__main__":
    run_job("package", main, sys.argv[1:])
