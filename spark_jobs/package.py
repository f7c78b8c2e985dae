"""Pack longtail's own code for a cluster that has its dependencies but not itself.

    longtail package --output longtail.zip
    spark-submit spark_jobs/package.py --output longtail.zip

and then

    spark-submit --master spark://HOST:7077 --py-files longtail.zip spark_jobs/train.py --world_size 4 ...

The zip holds the packages and their data files, nothing else; Spark puts it
before whatever the executors have installed.
"""

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import longtail
from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.options.package import PackageOptions
from longtail.spark_jobs.cli import run_job

_KINDS = (".py", ".yaml", ".properties", ".html", ".css", ".js")


def main(argv: Sequence[str]) -> None:
    options = parse_options(PackageOptions, argv, prog="longtail package")
    if options.output.suffix != ".zip":
        raise UserError(f"--output {options.output} must end in .zip: Spark tells the kind of --py-files by it")
    package(options.output)
    command = f"spark-submit --master URL --py-files {options.output} spark_jobs/train.py"
    print(f"package: {options.output}\nnext: {command} ...")


def package(output: Path) -> None:
    """Write the zip; the same code gives the same bytes."""
    root = Path(longtail.__file__).parent
    # Folder by folder: in the repository each is a link, which a walk from above does not follow.
    found = [file for entry in root.iterdir() for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    files = sorted(file for file in found if file.suffix in _KINDS)

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                # A fixed date instead of the file's: the zip then changes only with the code.
                entry = zipfile.ZipInfo(file.relative_to(root.parent).as_posix())
                archive.writestr(entry, file.read_bytes(), compress_type=zipfile.ZIP_DEFLATED)

    write_atomically(output, write)


if __name__ == "__main__":
    run_job("package", main, sys.argv[1:])
