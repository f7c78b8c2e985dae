"""Spark's daemon of Python workers for jobs with networks, with PyTorch loaded before it forks: each worker has it at
once.

Spark starts this program in the place of pyspark.daemon (spark.python.daemon.module, spark_jobs/cluster/settings.py):
else each worker loads PyTorch for itself, which takes seconds.
"""

import sys

from longtail.spark_jobs.cluster.quick_workers import serve, without_zip

if __name__ == "__main__":
    sys.path[:] = without_zip(sys.path)

    # The first optimizer of a process loads torch._dynamo; what the workers run loads the rest.
    import torch._dynamo  # noqa: F401

    import longtail.spark_jobs.cluster.barrier
    import longtail.spark_jobs.frames.predictions
    import longtail.training.run  # noqa: F401

    serve()
