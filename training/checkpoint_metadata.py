"""The metadata of a checkpoint, beside the weights: all that inference needs to know of a model; checked when read.

Adding a field: declare it with a default for checkpoints that lack it, and raise FORMAT_VERSION, as older readers
refuse fields that they do not know.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from longtail.conf.base.errors import UserError
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.names import check_class_names
from longtail.models.heads import HEADS
from longtail.training.augmentation import Normalisation
from longtail.training.calibration import Calibration, Reliability, Scaling

FORMAT_VERSION = 2
"""Version of the fields that longtail adds to the published layout."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """Description of a model, saved with its weights.

    phase: phase of the run, such as train or train_semi
    logit_scale: factor from the head's outputs to logits
    image_shape: (height, width, channels)
    class_counts: training images per class, including pseudo-labelled ones
    rule_counts: class counts used by loss and rule
    pseudo_label_round: round of the pseudo-labels used for training; 0 for none
    options: options of the job, by name
    set_identity: Manifest.identity of the prepared set; None in a checkpoint of format version 1
    calibration: what `longtail calibrate` found, which inference applies; None in a checkpoint of a training
    """

    run: str
    phase: str
    arch: str
    head: str
    logit_scale: float
    class_names: list[str]
    class_counts: list[int]
    rule_counts: list[int]
    pseudo_label_round: int
    image_shape: tuple[int, int, int]
    normalisation: Normalisation
    options: dict[str, Any]
    set_identity: str | None = None
    calibration: Calibration | None = None

    def in_order(self, order: Sequence[int] | None) -> "CheckpointMetadata":
        """The metadata with class order[i] as class i; None: as it is."""
        if order is None:
            return self
        names, counts, rule_counts = (
            [values[index] for index in order] for values in (self.class_names, self.class_counts, self.rule_counts)
        )
        calibration = self.calibration.in_order(order) if self.calibration else None
        return replace(self, class_names=names, class_counts=counts, rule_counts=rule_counts, calibration=calibration)


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """Best epoch so far by val_balanced_accuracy, with its test scores, which are only reported."""

    epoch: int
    val_balanced_accuracy: float
    test_scores: dict[str, float | None]


_PARTS = TypeAdapter(tuple[CheckpointMetadata | None, BestEpoch | None])
"""Checks the types of all fields."""


def metadata_text(metadata: CheckpointMetadata | None, best: BestEpoch | None) -> str:
    """Both as the JSON text that read_metadata reads. Raises ValueError if a number is NaN or infinite."""
    return json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "model_card": asdict(metadata) if metadata else None,
            "best": asdict(best) if best else None,
        },
        allow_nan=False,
    )


def read_metadata(text: str, *, path: Location) -> tuple[CheckpointMetadata | None, BestEpoch | None]:
    """Metadata and best epoch from a checkpoint's text. Raises UserError, with its path, if they are not valid."""
    try:
        fields = finite_json(text)
        check_format_version(fields["format_version"], newest=FORMAT_VERSION, file=path, remedy="train again")
        metadata, best = fields["model_card"], fields["best"]
        if metadata is not None:
            metadata["normalisation"] = Normalisation(**{k: tuple(v) for k, v in metadata["normalisation"].items()})
            metadata["image_shape"] = tuple(metadata["image_shape"])
            if metadata.get("calibration") is not None:
                metadata["calibration"] = _calibration_of(metadata["calibration"])
        # First as it stands, which refuses unknown fields, then the types of the fields.
        parts = CheckpointMetadata(**metadata) if metadata else None, BestEpoch(**best) if best else None
        _PARTS.validate_json(json.dumps([asdict(part) if part else None for part in parts]), strict=True)
        if parts[0] is not None:
            _check_values(parts[0])
            check_class_names(parts[0].class_names, where=path)
        return parts
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        reason = f"{where}: {first['msg'].lower()}"
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error)
    raise UserError(f"{path} has no valid description of its model ({reason[:200]}): train again")


def _calibration_of(fields: dict[str, Any]) -> Calibration:
    return Calibration(
        scaling=Scaling(**fields["scaling"]),
        resamples=[Scaling(**scaling) for scaling in fields["resamples"]],
        num_images=fields["num_images"],
        before=Reliability(**fields["before"]),
        after=Reliability(**fields["after"]),
    )


def _check_values(metadata: CheckpointMetadata) -> None:
    """Raise ValueError unless the values of the metadata fit each other: a wrong one would give wrong predictions."""
    names, normalisation = metadata.class_names, metadata.normalisation
    if metadata.head not in HEADS:
        raise ValueError(f"head {metadata.head!r:.40}")
    if not 0 < metadata.logit_scale < math.inf:
        raise ValueError(f"logit_scale {metadata.logit_scale}")
    if min(metadata.image_shape) < 1:
        raise ValueError(f"image_shape {metadata.image_shape}")
    if not len(normalisation.mean) == len(normalisation.std) == metadata.image_shape[2] or min(normalisation.std) <= 0:
        raise ValueError("normalisation: a mean and a standard deviation above 0 of each channel were expected")
    if len(set(names)) < len(names):
        raise ValueError("class_names: two classes have the same name")
    if any(len(counts) != len(names) or min(counts) < 0 for counts in (metadata.class_counts, metadata.rule_counts)):
        raise ValueError("class_counts and rule_counts: a count from 0 on of each class was expected")
    if metadata.pseudo_label_round < 0:
        raise ValueError(f"pseudo_label_round {metadata.pseudo_label_round}")
    if metadata.calibration is not None:
        metadata.calibration.check(num_classes=len(names))
    if not isinstance(metadata.options.get("dataset"), str):
        raise ValueError("options: the data set is missing")
