"""Versions of the files that Longtail writes: what a version wrote, later versions read."""

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location


def check_format_version(version: object, *, newest: int, file: Location | str, remedy: str) -> None:
    """Check the format version that was found in a file.

    newest: the newest version that this code reads; it reads all older ones, from 1 on
    remedy: clause for the message, for example "run `longtail prepare` again"

    Raises UserError if the version is newer, or no version at all.
    """
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{file} has the format version {version!r}, a number from 1 on was expected: {remedy}")
    if version > newest:
        raise UserError(
            f"{file} has the format version {version}, this version of Longtail reads up to {newest}: upgrade "
            f"longtail, or {remedy}"
        )
