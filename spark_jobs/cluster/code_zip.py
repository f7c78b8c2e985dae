"""The code of Longtail as a zip file, which spark-submit --py-files sends to the executors."""

import zipfile
from pathlib import Path

import longtail
from longtail.conf.base.files import write_atomically

_SUFFIXES = (".py", ".yaml", ".properties", ".html", ".css", ".js")


def write_code_zip(output: Path) -> None:
    """Write Longtail's code and data files, and nothing else; the same code gives the same bytes."""
    root = Path(longtail.__file__).parent
    # One folder at a time: in the repository each is a link, which rglob does not follow.
    found = [file for entry in root.iterdir() for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    files = sorted(file for file in found if file.suffix in _SUFFIXES)

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                # With a fixed date instead of the file's, the zip changes only with the code.
                entry = zipfile.ZipInfo(file.relative_to(root.parent).as_posix())
                archive.writestr(entry, file.read_bytes(), compress_type=zipfile.ZIP_DEFLATED)

    write_atomically(output, write)
