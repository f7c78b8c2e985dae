"""JSON of files that may be damaged or another's: numbers are finite, as in every file that Longtail writes."""

import json
import math
from typing import Any


def finite_json(text: str) -> Any:
    """The value of JSON text. Raises ValueError for other text and for numbers that are NaN, infinite or too large.

    Raises RecursionError for nesting without end.
    """
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(name: str) -> float:
    raise ValueError(f"it has the number {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it has the number {digits[:40]}")
    return number
