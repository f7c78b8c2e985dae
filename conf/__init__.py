"""Typed options, facts about each data set, experiments and Spark's settings; base/ has what all packages share."""

if __name__ != "longtail.conf":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("conf/ is the package longtail.conf: import it by that name")
