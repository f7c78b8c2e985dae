"""Typed options, what is known of each data set, experiments, Spark's settings; and what every floor shares (base/)."""

if __name__ != "longtail.conf":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("conf/ is the package longtail.conf: import it by that name")
