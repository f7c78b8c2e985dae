"""Exported runs: damaged zip files, and whole ones of members with other names, types and content."""

import io
import shutil
import zipfile
from pathlib import Path
from random import Random

from longtail.streaming.events.schema import event_line
from longtail.streaming.runs.importing import import_run
from tests.events import class_event
from tests.fuzz.mutation import changed_json, damaged

_EXPORT = {"format_version": 1, "run": "base"}
_EVENT = event_line(class_event(run="base"))
_NAMES = [
    "export.json", "description.json", "run/options.json", "run/result.json", "events/base-attempt001-started.jsonl",
    "events/archive/base@1-1a2b3c4d.parquet", "tables/x.parquet",
]  # fmt: skip
_ODD = ["../escaped", "/tmp/escaped", "run/../../escaped", "run", "events", "run/a\\b", "run/\ud800", "trash/x", "",
        "events/other-attempt001-started.jsonl", "run/" + "x" * 300, "run/.", "events/..", "export.json/x"]  # fmt: skip
_MODES = (0, 0o100644, 0o120777, 0o010644, 0o020644, 0o040755)


def generate(random: Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in _NAMES:
            if random.random() < 0.9:
                _put(archive, name, _content(name, random), random)
        if random.random() < 0.3:
            _put(archive, random.choice(_ODD), "x", random)
    return damaged(file.getvalue(), random) if random.random() < 0.5 else file.getvalue()


def _content(name: str, random: Random) -> str:
    if name == "export.json":
        return changed_json(_EXPORT, random) if random.random() < 0.2 else '{"format_version": 1, "run": "base"}'
    if name.startswith("events/") and random.random() < 0.8:
        return f"{_EVENT}\n" if random.random() < 0.8 else "\n".join(changed_json({"run": "base"}, random))
    return "{}"


def _put(archive: zipfile.ZipFile, name: str, content: str, random: Random) -> None:
    info = zipfile.ZipInfo(name.encode(errors="replace").decode() or "x")
    info.external_attr = (random.choice(_MODES) if random.random() < 0.05 else 0o100644) << 16
    archive.writestr(info, content.encode(errors="replace"))


def read(content: bytes, directory: Path) -> None:
    file, runs_dir = directory / "export.zip", directory / "runs"
    file.write_bytes(content)
    shutil.rmtree(runs_dir, ignore_errors=True)
    runs_dir.mkdir()
    try:
        run = import_run(runs_dir, file)
        assert {path.name for path in runs_dir.iterdir()} <= {run, "events", "descriptions"}
        assert not any(path.is_symlink() for path in runs_dir.rglob("*"))
    finally:
        found = {path.name for path in directory.iterdir()}
        assert found <= {"export.zip", "runs", "failures"}, found
