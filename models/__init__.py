"""Networks and their heads."""

if __name__ != "longtail.models":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("models/ is the package longtail.models: import it by that name")
