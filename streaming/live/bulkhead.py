"""Keeps a line that cannot be processed from stopping the others: it is found by halving the batch, and left out."""

from collections.abc import Callable

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

DATA_ERRORS = (
    PySparkException, Py4JJavaError, pa.ArrowException, ArithmeticError, AssertionError, LookupError, TypeError,
    ValueError,
)  # fmt: skip
"""Errors that the content of lines may cause. A full disk, an interruption or the end of the JVM is none of them."""

MAX_FAILURES = 100
"""After so many failures in a batch, what is left of a failing part is left out without looking for its culprits."""

RefusedLines = list[tuple[pa.Table, str]]
"""Lines, as tables of LINE_SCHEMA, and the error that each of them caused."""


def apply_in_parts(lines: pa.Table, apply: Callable[[pa.Table], None], check: Callable[[], None]) -> RefusedLines:
    """Apply lines all at once or, if that fails, in ever smaller parts; returns the lines that fail on their own.

    apply: processes lines, and has no effect if it raises; parts of a batch, one after the other, have the effect of
        the whole batch
    check: raises if `apply` would fail with any lines. Then the error of `apply` is raised: no line has caused it
    """
    refused: RefusedLines = []
    failures = 0
    waiting = [lines]
    while waiting:
        part = waiting.pop()
        try:
            apply(part)
        except OSError:  # some of the others are subclasses
            raise
        except DATA_ERRORS as error:
            if not failures:
                check()
            failures += 1
            if part.num_rows == 1 or failures > MAX_FAILURES:
                refused.append((part, _in_one_line(error)))
            else:
                half = part.num_rows // 2
                waiting += [part.slice(half), part.slice(0, half)]
    return refused


def _in_one_line(error: Exception) -> str:
    cause = error.java_exception.toString() if isinstance(error, Py4JJavaError) else str(error)
    return " ".join(f"{type(error).__name__}: {cause}".split())[:500]
