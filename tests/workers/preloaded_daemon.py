"""Spark's daemon of Python workers, with the large packages loaded before it forks: each worker has them at once.

Spark starts it in the place of pyspark.daemon (spark.python.daemon.module): loading torch takes a worker longer than
the work of most tests.
"""

import gc

from pyspark.daemon import manager

import longtail.spark_jobs.cluster.barrier
import longtail.spark_jobs.frames.predictions
import longtail.training.run  # noqa: F401

if __name__ == "__main__":
    # Workers collect garbage after every task: to look through what is loaded, which stays, would take 0.1 s each time.
    gc.freeze()
    manager()
