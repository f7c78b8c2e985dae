"""The files of the quarantine: TABLES_DIR/quarantine/lines-NUMBER-VERSION.parquet.

Lines are added to the last file until it is full: its next version is written, and the one before is removed then. Of
several versions, the last one counts. Files with other names, as builds before 0.2.0 wrote them, have no versions: each
counts.
"""

import re
from pathlib import Path

from longtail.streaming.tables.schemas import QUARANTINE

_VERSIONED = re.compile(r"lines-(\d{6,})-(\d{6,})\.parquet")


def quarantine_files(tables_dir: Path) -> list[Path]:
    """The files that count, those without versions among them, in the order of their names."""
    files = sorted((tables_dir / QUARANTINE).glob("*.parquet"))
    return list({file.stem.rpartition("-")[0] if version_of(file) else file.stem: file for file in files}.values())


def version_of(file: Path) -> tuple[int, int] | None:
    """Number and version of a file, None if it has none."""
    found = _VERSIONED.fullmatch(file.name)
    return (int(found[1]), int(found[2])) if found else None


def versioned_file(tables_dir: Path, number: int, version: int) -> Path:
    """The path of a file."""
    return tables_dir / QUARANTINE / f"lines-{number:06d}-{version:06d}.parquet"
