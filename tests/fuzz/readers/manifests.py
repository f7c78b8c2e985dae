"""Manifests: of prepared sets, and of the live tables of a run."""

import json
from pathlib import Path
from random import Random
from typing import Any

from longtail.data.manifest import FILE_NAME, read_manifest
from longtail.streaming.tables.manifest import read_run_manifest
from tests.conftest import REPOSITORY
from tests.fuzz.mutation import damaged_json

_WRITTEN = REPOSITORY / "tests" / "written_by_0.2"
_SET: dict[str, Any] = json.loads(next(_WRITTEN.glob("prepared_set/**/manifest.json")).read_text())
_RUN: dict[str, Any] = json.loads(next(_WRITTEN.glob("tables/runs/*/manifest.json")).read_text())


def generate(random: Random) -> bytes:
    return damaged_json(random.choice((_SET, _RUN)), random)


def read(content: bytes, directory: Path) -> None:
    (directory / FILE_NAME).write_bytes(content)
    run_directory = directory / "runs" / "a_run"
    run_directory.mkdir(parents=True, exist_ok=True)
    (run_directory / "manifest.json").write_bytes(content)
    if b"segment_epochs" in content:
        read_run_manifest(directory, "a_run")
    else:
        manifest = read_manifest(directory)
        for split in manifest.counts:
            manifest.num_images(split)
