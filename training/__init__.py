"""Losses, re-balancing, semi-supervised methods, the loop, checkpoints, evaluation. Needs no Spark."""

if __name__ != "longtail.training":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("training/ is the package longtail.training: import it by that name")
