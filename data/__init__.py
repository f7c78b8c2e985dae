"""Data sources, long-tail arithmetic, the Parquet contract of a prepared set, and its loader."""

if __name__ != "longtail.data":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("data/ is the package longtail.data: import it by that name")
