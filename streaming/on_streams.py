"""Says which query to use instead of one that does not work on a streaming DataFrame, where Spark's error would not."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from pyspark.sql import DataFrame

from longtail.conf.base.errors import UserError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def not_on_streams(instead: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let a query raise UserError for a streaming DataFrame: it compares rows, of which a stream never has all.

    instead: what does work
    """

    def guard(query: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(query)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            given = (*args, *kwargs.values())
            if any(isinstance(value, DataFrame) and value.isStreaming for value in given):
                raise UserError(f"{query.__name__} does not work on a streaming DataFrame: {instead}")
            return query(*args, **kwargs)

        return guarded

    return guard
