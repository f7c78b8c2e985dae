"""Functions of the API without the options of a job: an argument of a wrong name gets a suggestion all the same."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def with_known_options(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function that raises UserError, with a suggestion, for an argument of a name that it does not have."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        if unknown := [name for name in options if name not in known]:
            raise UserError(
                f"unknown option {unknown[0]!r}{did_you_mean(unknown[0], known)}: {function.__name__}() has "
                f"{', '.join(known)}"
            )
        return function(*args, **options)

    return checked
