"""What the same options have always prepared: parts, pixels, statistics and copies, as recorded on 29 November 2026.

The images are generated, and stored without the compression of a library that may change. An expected value that must
change is a break with the sets that users have: CHANGELOG.md says so.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.manifest import Manifest, read_manifest
from longtail.spark_jobs.steps.prepare import prepare


def picture(number: int, side: int = 24) -> Image.Image:
    """Patches of random colours, a picture of its own for each number."""
    colours = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((side // 6, side // 6, 1), np.uint8)))


def write_folder(path: Path) -> dict[str, Any]:
    """90 and 30 BMP files; four are copies of others, three near copies, one is damaged."""
    labelled, more = path / "labelled", path / "more"
    for number in range(120):
        file = labelled / "ab"[number >= 90] / f"{number:03d}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number if number % 40 else 7).save(file)
    (labelled / "a" / "011.bmp").write_bytes(b"no image")
    more.mkdir()
    for number in range(200, 215):
        picture(number).save(more / f"{number}.bmp")
    for number in range(3, 90, 11):
        picture(number, side=36).save(more / f"larger_{number}.bmp")
    picture(95).save(more / "same.bmp")
    return {"dataset": "folder", "path": labelled, "image_size": 20, "on_bad_image": "skip"}


def write_pixels(path: Path) -> dict[str, Any]:
    """600 images of 16 x 18 pixels of three classes in row groups of 100, some repeated."""
    colours = np.random.default_rng(5).integers(0, 256, (600, 4, 3, 3), np.uint8)
    colours[np.arange(0, 600, 50)] = colours[3]
    pixels = np.kron(colours, np.ones((1, 4, 6, 1), np.uint8))
    columns: dict[str, Any] = {
        "image": [image.tobytes() for image in pixels],
        "label": np.array(["cat", "dog", "emu"])[(np.arange(600) ** 2 // 7) % 3],
    }
    columns |= {name: np.full(600, size) for name, size in (("height", 16), ("width", 18), ("channels", 3))}
    path.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path / "pixels.parquet", row_group_size=100)
    return {"dataset": "table", "path": path / "pixels.parquet"}


def write_files_in_table(path: Path) -> dict[str, Any]:
    """80 BMP files in structs with `bytes`, and integer labels with a gap."""
    folder = write_folder(path)["path"]
    files = sorted(folder.rglob("*.bmp"))[20:100]
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": rows, "label": [3 * (i % 2) for i in range(80)]}), path / "files.parquet")
    return {"dataset": "table", "path": path / "files.parquet", "image_size": 16}


Written = Callable[[Path], dict[str, Any]]


def with_more(written: Written, **values: object) -> Written:
    """What is written, and the images of more/ as unlabeled ones."""

    def write(path: Path) -> dict[str, Any]:
        return {**written(path), "unlabeled": str(path / "more"), **values}

    return write


def with_own(values: dict[str, Any], written: Written = lambda _: {}) -> Written:
    return lambda path: {**written(path), **values}


ALL_PARTS_OF_DIGITS = {"imb_factor_unlabel": 0.5, "unlabel_size_factor": 3.0, "val_fraction": 0.2, "rand_number": 3}
CUT = {"imb_type": "exp", "imb_factor": 0.3, "n_max": 40, "val_fraction": 0.2}
REST = {"imb_type": "exp", "imb_factor": 0.5, "n_max": 10, "imb_factor_unlabel": 1.0, "unlabel_size_factor": 2.0}
ALL_PARTS_OF_PIXELS = {
    "imb_type": "exp", "imb_factor": 0.2, "n_max": 50, "imb_factor_unlabel": 0.4, "unlabel_size_factor": 2.0,
    "val_fraction": 0.3, "rand_number": 11, "test_fraction": 0.3,
}  # fmt: skip

SETS: dict[str, tuple[Written, str]] = {
    "digits": (with_own({}), "ddff64f8f79c1e75c7fa885c99b7e530"),
    "digits, all parts": (with_own(ALL_PARTS_OF_DIGITS), "14ed86a8837901a79db2599ddfdc3f85"),
    "digits, step": (
        with_own({"imb_type": "step", "imb_factor": 0.1, "n_max": 60, "val_fraction": 0.1}),
        "6a8fae279ba97650e6d096e1aea2c694",
    ),
    "folder": (write_folder, "b54fd4b8643e1ff46fce03e50f15d826"),
    "folder, cut": (with_own(CUT, write_folder), "aff4eaee5133d0e3e52f3fa4f87d150a"),
    "folder, rest unlabeled": (with_own(REST, write_folder), "800297afaa47218fc73146ecef1fd4a3"),
    "folder, unlabeled directory": (with_more(write_folder), "1c5eceeb3eaff901c54907e169da578a"),
    "folder, copies kept": (with_more(write_folder, keep_labelled_copies=True), "9e47d307a28141f26b8354bd778ceffe"),
    "pixels": (write_pixels, "f6570c18e6e0a3e29f9856fcf6a8e9b0"),
    "pixels, all parts": (with_own(ALL_PARTS_OF_PIXELS, write_pixels), "839a14743aa0d4537551be08100623fa"),
    "files in a table": (write_files_in_table, "8bac12372f1843672db8bffcf2a46147"),
}
LONG = {"digits, step", "folder", "folder, copies kept", "pixels"}
"""What the others show too."""


def fingerprint_of(manifest: Manifest, skipped: Path) -> str:
    """A hash of all that does not depend on where the files are."""
    facts = {
        "checksums": manifest.checksums,
        "counts": manifest.counts,
        "numbers": [manifest.num_classless, manifest.num_bad_images, manifest.num_label_conflicts],
        "class_names": manifest.class_names,
        "channels": [manifest.channel_mean, manifest.channel_std],
        "duplicates": manifest.duplicates,
        "copies": manifest.copies,
        "label_conflicts": manifest.label_conflicts,
        "skipped": [Path(line.split(",")[0]).name for line in skipped.read_text().splitlines()]
        if skipped.exists()
        else [],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in SETS])
def test_the_same_options_give_the_set_that_they_have_always_given(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    written, expected = SETS[name]
    options = resolve_options(PrepareOptions, {"data_dir": tmp_path / "data", **written(tmp_path)})

    set_dir = prepare(spark, options)

    assert fingerprint_of(read_manifest(set_dir), set_dir / "skipped_images.csv") == expected
