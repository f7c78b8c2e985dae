"""Code given by name: `package.module:name`, for built-in networks and methods and for a user's own.

What users name on their own command line is imported. A name that a checkpoint records is not, unless they give the
same one: a checkpoint may come from anybody, and importing a module runs its code.
"""

import importlib
import re
from typing import Any

from longtail.conf.base.errors import UserError

CODE_NAME = re.compile(r"(?!timm:)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""package.module:name; timm:NAME is a network of that library (conf/networks.py)."""


def is_code_name(name: str) -> bool:
    """Whether the name is `package.module:name`, not that of a built-in."""
    return CODE_NAME.fullmatch(name) is not None


def short_name(name: str) -> str:
    """The name without the module, for file names and tables."""
    return name.rpartition(":")[2]


def load_code(name: str, *, option: str) -> Any:
    """Import `package.module:name` and return the object, which is callable.

    option: the flag that gave the name, for messages

    Raises UserError if there is no such module or name, if importing it fails, or if the object is not callable.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{option} {name}: there is no module {error.name}; install it, or put its directory on PYTHONPATH"
        ) from error
    except Exception as error:  # the user's module may raise anything
        raise UserError(f"{option} {name}: importing {module_name} fails: {_one_line(error)}") from error
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{option} {name}: module {module_name} has no {attribute}") from None
    if not callable(found):
        raise UserError(f"{option} {name}: {attribute} is not callable, but of type {type(found).__name__}")
    return found


def call_code(function: Any, *arguments: Any, name: str, option: str, **named: Any) -> Any:
    """Call a user's function. Raises UserError with its exception in one line, caused by the exception itself."""
    try:
        return function(*arguments, **named)
    except UserError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise UserError(f"{option} {name}: calling it fails: {_one_line(error)}") from error


def check_given(name: str, given: str | None, *, option: str, checkpoint: Any) -> None:
    """Raise UserError if a checkpoint records code of a user's and the command line does not give the same name."""
    if is_code_name(name) and name != given:
        raise UserError(
            f"{checkpoint} records {option} {name}, code that is not Longtail's; it runs only if you give "
            f"{option} {name} yourself"
        )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
