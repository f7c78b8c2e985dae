"""Facts and defaults of each data set: the YAML files in conf/datasets/.

A file gives the facts that cannot be derived from the data (published
normalisation constants, whether a mirrored image keeps its meaning) and the
defaults that suit the data set, for all jobs and for `pipeline`.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean

# A resource and not a path: on a cluster the package may be in a zip.
DIRECTORY = files("longtail.conf") / "datasets"


# The published scripts' names of ImageNet-LT and iNaturalist 2018.
_LISTED = ("imagenet", "inat")


class DataSetFacts(BaseModel):
    """One file of conf/datasets/.

    horizontal_flip: whether a mirrored image keeps its class
    mean, std: per channel, for pixels in [0, 1]; None: computed from the labelled images
    defaults: option values by name, for all jobs
    pipeline: option values that `pipeline` has on top of them
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizontal_flip: bool
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    defaults: dict[str, Any] = {}
    pipeline: dict[str, Any] = {}


def known_datasets() -> list[str]:
    """Names of the data sets, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in DIRECTORY.iterdir() if file.name.endswith(".yaml"))


@cache
def dataset_facts(dataset: str) -> DataSetFacts:
    """The facts of a data set. Raises UserError if there is none of that name."""
    if dataset not in known_datasets():
        guess = did_you_mean(dataset, known_datasets())
        lists = "; this one comes as lists: --dataset image_list --path DIR --list FILE" if dataset in _LISTED else ""
        raise UserError(f"unknown data set {dataset!r}{guess}: choose one of {', '.join(known_datasets())}{lists}")
    text = (DIRECTORY / f"{dataset}.yaml").read_text(encoding="utf-8")
    return DataSetFacts.model_validate(yaml.safe_load(text))
