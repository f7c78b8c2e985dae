"""The jobs, one short file each, and the sub-packages that they share."""

if __name__ != "longtail.spark_jobs":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("spark_jobs/ is the package longtail.spark_jobs: import it by that name")
