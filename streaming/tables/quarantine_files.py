"""The files of the quarantine: TABLES_DIR/quarantine/lines-NUMBER-VERSION.parquet.

Lines are added to the last file until it is full: its next version is written, and the one before is removed then. Of
several versions, the last one counts. Files with other names are no part of it.
"""

import re
from pathlib import Path

from longtail.streaming.tables.schemas import QUARANTINE

_NAME = re.compile(r"lines-\d{6,}-\d{6,}\.parquet")


def quarantine_files(tables_dir: Path) -> list[Path]:
    """The files that count, in the order of their numbers."""
    files = [file for file in (tables_dir / QUARANTINE).glob("*.parquet") if _NAME.fullmatch(file.name)]
    return list({number_and_version(file)[0]: file for file in sorted(files, key=number_and_version)}.values())


def number_and_version(file: Path) -> tuple[int, int]:
    """Number and version of a file."""
    _, number, version = file.stem.split("-")
    return int(number), int(version)


def versioned_file(tables_dir: Path, number: int, version: int) -> Path:
    """The path of a file."""
    return tables_dir / QUARANTINE / f"lines-{number:06d}-{version:06d}.parquet"
