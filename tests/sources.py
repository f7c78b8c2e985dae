"""What tests of the sources share."""

from pathlib import Path

from longtail.conf.arguments import resolve_options
from longtail.conf.options.data import DataOptions


def in_directory(data_dir: Path, **values: object) -> DataOptions:
    """Options under which a source looks for its files in a directory."""
    return resolve_options(DataOptions, {"data_dir": data_dir, **values})
