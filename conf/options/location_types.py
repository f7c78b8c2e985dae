"""Types of options that name a location on the local disk or in a store (conf/base/locations.py)."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from longtail.conf.base.locations import Location


def _found(is_there: Callable[[], bool]) -> bool:
    try:
        return is_there()
    except OSError as error:
        raise ValueError(f"it cannot be reached ({error})") from None


def _is_a_file(path: Location) -> Location:
    if not _found(path.is_file):
        raise ValueError("there is no such file")
    return path.absolute()  # the tasks that read it run in other directories


def _is_a_directory(path: Location) -> Location:
    if not _found(path.is_dir):
        raise ValueError("there is no such directory")
    return path


FileLocation = Annotated[Location, AfterValidator(_is_a_file)]
"""A file that is there."""
DirectoryLocation = Annotated[Location, AfterValidator(_is_a_directory)]
"""A directory that is there."""
