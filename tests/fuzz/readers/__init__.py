"""One module for each reader of foreign files; see tests/fuzz/runner.py for what a module has."""

from tests.fuzz.readers import (
    checkpoints,
    event_lines,
    idx,
    lists,
    manifests,
    mat,
    pickles,
    pseudo_labels,
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
}
