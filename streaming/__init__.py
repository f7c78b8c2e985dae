"""Metric events, and the Structured Streaming queries that turn them into live tables."""

if __name__ != "longtail.streaming":
    # The repository's root is on the path: under a second name every module would be loaded twice.
    raise ImportError("streaming/ is the package longtail.streaming: import it by that name")
