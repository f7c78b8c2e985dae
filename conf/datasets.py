"""What is known of each data set beforehand: the YAML files in conf/datasets/.

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

# As a resource and not as a path: on a cluster the packages may lie in a zip.
DIRECTORY = files("longtail.conf") / "datasets"


class DataSetFacts(BaseModel):
    """One file of conf/datasets/.

    mean, std: per channel, for pixels in [0, 1]; None: computed from the labelled images.
    defaults, pipeline: option values by name, for all jobs and for `pipeline` on top.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizontal_flip: bool
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    defaults: dict[str, Any] = {}
    pipeline: dict[str, Any] = {}


def known_datasets() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in DIRECTORY.iterdir() if file.name.endswith(".yaml"))


@cache
def dataset_facts(dataset: str) -> DataSetFacts:
    if dataset not in known_datasets():
        raise UserError(f"unknown data set {dataset!r}: choose one of {', '.join(known_datasets())}")
    text = (DIRECTORY / f"{dataset}.yaml").read_text(encoding="utf-8")
    return DataSetFacts.model_validate(yaml.safe_load(text))
