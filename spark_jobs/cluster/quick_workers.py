"""Spark's daemon of Python workers for local sessions: starts PySpark from the installed package.

Spark starts this program in the place of pyspark.daemon (spark.python.daemon.module, spark_jobs/cluster/settings.py).
It gives its processes PySpark as a zip file, from which each compiles every module anew: 0.7 s of a core instead of
0.2 s. The installed package has the same files compiled. What nearly every task uses is loaded before the workers are
forked.
"""

import gc
import sys
from pathlib import Path

_ZIP = Path("python", "lib", "pyspark.zip")


def without_zip(paths: list[str]) -> list[str]:
    """The paths of modules without the zip file of a PySpark that is installed in another of them."""
    installed = {Path(path, "pyspark", _ZIP) for path in paths}
    return [path for path in paths if Path(path) not in installed]


def serve() -> None:
    """Serve Spark until it ends. Everything that is loaded stays so in the workers."""
    import pyarrow as pa
    import pyarrow.parquet  # noqa: F401
    import pyspark.worker  # noqa: F401
    from pyspark.daemon import manager

    pa.array([0])  # pyarrow loads pandas with the first array that it makes of a list
    # Workers collect garbage after every task: to look through what is loaded would take 0.03 s each time, with PyTorch
    # 0.1 s.
    gc.freeze()
    manager()


if __name__ == "__main__":
    sys.path[:] = without_zip(sys.path)
    serve()
