"""The manifest of a prepared set: what it was made from, and what it must hold."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.vocabulary import SPLITS, UNLABELED
from longtail.data.contract import ENCODED, RAW, SCHEMA_VERSION
from longtail.data.storage import Place, child, read_text

FILE_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of manifest.json.

    parameters: the options that decide the content (conf/options/, set_parameters)
    image_shape: (height, width, channels) of every image, of an encoded one when it is loaded
    encoding: RAW pixels, or ENCODED files
    counts: images per class, by split; for the unlabeled part by the withheld label
    num_classless: images of the unlabeled part that count for no class, because they belong to none or nobody knows
    channel_mean, channel_std: of the training images, per channel, for pixels in [0, 1]
    duplicates: exact copies, by the parts that they lie in (spark_jobs/frames/image_statistics.py)
    num_bad_images: the user's own images that were left out because they could not be decoded
    checksums: by split, a hash of its rows that does not depend on their order or files
    source: where the images came from, and how they were verified
    source_state: of a set of the user's own files, what tells whether they have changed (data/sources/own_files.py)
    """

    schema_version: int
    dataset: str
    parameters: dict[str, Any]
    class_names: list[str]
    image_shape: tuple[int, int, int]
    encoding: str
    counts: dict[str, list[int]]
    num_classless: int
    num_bad_images: int
    channel_mean: list[float]
    channel_std: list[float]
    duplicates: list[dict[str, Any]]
    checksums: dict[str, str]
    source: str
    source_state: str | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def num_images(self, split: str) -> int:
        return sum(self.counts[split]) + (self.num_classless if split == UNLABELED else 0)

    def write(self, directory: Path) -> None:
        write_json_atomically(directory / FILE_NAME, dataclasses.asdict(self))


def read_manifest(directory: Place) -> Manifest:
    """Raises UserError if ``directory`` holds no prepared set or one of another version."""
    file = child(directory, FILE_NAME)
    remedy = f"delete {directory} and run `longtail prepare` again"
    try:
        values = json.loads(read_text(file))
    except FileNotFoundError:
        raise UserError(
            f"{directory} is not a prepared data set: it has no {FILE_NAME}; run `longtail prepare`"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} ({error}): {remedy}") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{file} has schema version {version}, this longtail reads {SCHEMA_VERSION}: {remedy}")
    try:
        manifest = Manifest(**{**values, "image_shape": tuple(values["image_shape"])})
        if any(len(manifest.counts[split]) != manifest.num_classes for split in SPLITS):
            raise TypeError("counts do not fit the classes")
        if manifest.encoding not in (RAW, ENCODED):
            raise TypeError(f"encoding {manifest.encoding!r}")
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): {remedy}") from None
    return manifest
