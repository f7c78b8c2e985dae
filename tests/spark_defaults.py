"""The files of settings to start from, as Spark reads them."""

import re
from pathlib import Path

from tests.conftest import REPOSITORY

SPARK_DEFAULTS = REPOSITORY / "conf" / "spark-defaults"


def settings(file: Path) -> list[tuple[str, str]]:
    """Those in force, in the file's order."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def marked_settings(file: Path) -> dict[str, str]:
    """Those behind a mark, for the user to take it away."""
    return dict(re.findall(r"^# (spark\.\S+)\s+(\S+)$", file.read_text(), re.MULTILINE))
