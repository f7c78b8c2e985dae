"""One module for each reader of foreign files; see tests/fuzz/runner.py for what a module has."""

from tests.fuzz.readers import (
    checkpoints,
    event_columns,
    event_lines,
    idx,
    images,
    json_files,
    lists,
    manifests,
    mat,
    pickles,
    prepared_sets,
    pseudo_labels,
    run_exports,
    settings,
    tables,
    tar,
    yaml_files,
)
from tests.fuzz.runner import Reader

READERS: dict[str, Reader] = {
    "pickles": pickles,
    "checkpoints": checkpoints,
    "idx": idx,
    "mat": mat,
    "tar": tar,
    "lists": lists,
    "manifests": manifests,
    "event_lines": event_lines,
    "yaml": yaml_files,
    "pseudo_labels": pseudo_labels,
    "event_columns": event_columns,
    "images": images,
    "json_files": json_files,
    "prepared_sets": prepared_sets,
    "run_exports": run_exports,
    "settings": settings,
    "tables": tables,
}
