"""The manifest of a prepared set: its origin and its expected content.

Adding a field: declare it with a default for manifests that lack it, and raise FORMAT_VERSION, as older readers refuse
fields that they do not know.
"""

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_json_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.names import check_class_names
from longtail.conf.vocabulary import SPLITS, UNLABELED
from longtail.data.contract import ENCODED, RAW

FILE_NAME = "manifest.json"
FORMAT_VERSION = 2
"""Version of the manifest and of the files that it describes."""

CHECKSUM_VERSION = 2
"""Format version of the first manifests with OWN_CHECKSUM, and with checksums of data/checksums.py."""
OWN_CHECKSUM = "own_checksum"
"""Field of the file: SHA-256 of the others. The checksums of the rows cover neither class names nor channels."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of manifest.json.

    parameters: the options that decide the content (DataOptions.set_parameters)
    class_names: by class index
    image_shape: (height, width, channels) of every image; of an encoded one, after it is loaded
    encoding: RAW pixels, or ENCODED files
    counts: images per class, by split; in the unlabeled part by the withheld label
    num_classless: images of the unlabeled part that belong to none of the classes or whose class is unknown
    num_bad_images: images of the user's that were left out because they could not be decoded
    channel_mean, channel_std: of the training images, per channel, for pixels in [0, 1]
    duplicates: exact copies, by the splits that contain them (spark_jobs/frames/image_statistics.py)
    copies: images of a part that are exact or near copies of images of another, by part, kind and what they copy
        (spark_jobs/steps/copies.py); those that copy test or validation images are not in the unlabeled part
    num_label_conflicts, label_conflicts: contents of labelled and test images with more than one class, and examples
    checksums: by split, a hash of its rows that does not depend on their order or files (data/checksums.py)
    source: origin of the images, and how they were verified
    unlabeled_ids: the first id and the number of images of the source of the unlabeled part, if it is a published one;
        None if it is not (data/published_pseudo_labels.py)
    source_state: for a set of the user's files, a hash that shows whether they changed (data/sources/own_files.py)
    format_version: FORMAT_VERSION of the writer
    """

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
    unlabeled_ids: tuple[int, int] | None = None
    source_state: str | None = None
    copies: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    num_label_conflicts: int = 0
    label_conflicts: list[str] = dataclasses.field(default_factory=list)
    format_version: int = FORMAT_VERSION

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits: equal for sets of the same images, labels and classes, wherever they are."""
        content = (self.class_names, self.image_shape, self.encoding, sorted(self.checksums.items()))
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def num_images(self, split: str) -> int:
        """Images of a split, those of no class included."""
        return sum(self.counts[split]) + (self.num_classless if split == UNLABELED else 0)

    def write(self, directory: Location) -> None:
        """Write the manifest of the prepared set in ``directory``."""
        values = dataclasses.asdict(self)
        write_json_atomically(directory / FILE_NAME, {**values, OWN_CHECKSUM: own_checksum(values)})


def own_checksum(values: dict[str, Any]) -> str:
    """OWN_CHECKSUM of a manifest's other fields."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


_MANIFEST = TypeAdapter(Manifest)


def read_manifest(directory: Location) -> Manifest:
    """Read the manifest of the prepared set in ``directory``.

    Raises UserError if there is none, or if it is damaged or of a newer format.
    """
    file = directory / FILE_NAME
    remedy = f"delete {directory} and run `longtail prepare` again"
    try:
        values = finite_json(read_regular_text(file))
    except FileNotFoundError:
        raise UserError(
            f"{directory} is not a prepared data set: it has no {FILE_NAME}; run `longtail prepare`"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {file} ({error}): {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): {remedy}") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    check_format_version(version, newest=FORMAT_VERSION, file=file, remedy=remedy)
    checksum = values.pop(OWN_CHECKSUM, None)
    try:
        if unknown := values.keys() - {field.name for field in dataclasses.fields(Manifest)}:
            raise TypeError(f"unknown field {sorted(unknown)[0]!r}")
        manifest = _MANIFEST.validate_json(json.dumps(values), strict=True)
        _check_values(manifest)
        is_expected = checksum is not None or manifest.format_version >= CHECKSUM_VERSION
        if is_expected and checksum != own_checksum(values):
            raise TypeError("it was changed after it was written")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())[:300]}): {remedy}") from None
    check_class_names(manifest.class_names, where=file)
    return manifest


def _check_values(manifest: Manifest) -> None:
    """Raise TypeError unless the values of a manifest fit each other."""
    numbers = [*itertools.chain(*manifest.counts.values()), manifest.num_classless, manifest.num_bad_images]
    if not manifest.counts.keys() >= {*SPLITS} or any(number < 0 for number in numbers):
        raise TypeError("counts are missing or negative")
    if min(manifest.image_shape) < 1 or any(std < 0 for std in manifest.channel_std):
        raise TypeError("images without pixels, or a standard deviation below 0")
    if not len(manifest.channel_mean) == len(manifest.channel_std) == manifest.image_shape[2]:
        raise TypeError("channel statistics do not fit the images")
    if len(set(manifest.class_names)) < manifest.num_classes:
        raise TypeError("two classes of the same name")
    if any(len(manifest.counts[split]) != manifest.num_classes for split in SPLITS):
        raise TypeError("counts do not fit the classes")
    if manifest.encoding not in (RAW, ENCODED):
        raise TypeError(f"encoding {manifest.encoding!r}")
