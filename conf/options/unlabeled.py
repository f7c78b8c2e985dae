"""Options of the unlabeled images."""

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from longtail.conf.base.locations import Location, location
from longtail.conf.base.paths import is_possible_path
from longtail.conf.base.store_path import StorePath
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import option
from longtail.conf.options.long_tail import LongTailOptions
from longtail.conf.options.source import OWN_IMAGES

REST = "rest"
UNLABELED_NAMES = (REST, "svhn_extra")
"""Values of --unlabeled that are no paths; a directory of such a name is ./NAME."""


class UnlabeledOptions(LongTailOptions):
    """Which unlabeled images there are, and how many of each class."""

    imb_factor_unlabel: float | None = option(
        None,
        "smallest over largest unlabeled class, 1/rho_U; above 1 the tail is reversed; without this and --unlabeled "
        "there is no unlabeled part",
        group="Unlabeled images", gt=0,
    )  # fmt: skip
    unlabeled: str | None = option(
        None,
        "unlabeled images from elsewhere: a directory, a Parquet or Delta table, svhn_extra, a pickle in the layout of "
        "ti_80M_selected.pickle, or `rest`, those below --path that no list names; all of them, unless "
        "--imb_factor_unlabel is given", group="Unlabeled images",
    )  # fmt: skip
    unlabel_size_factor: float = option(
        5.0, "unlabeled images per labelled image (K of D_U@Kx)", group="Unlabeled images", gt=0, le=1e6
    )
    keep_labelled_copies: bool = option(
        False,
        "keep unlabeled images that are exact or near copies of labelled ones; copies of test and "
        "validation images are always left out", group="Unlabeled images", advanced=True,
    )  # fmt: skip
    relevance: float = option(
        1.0, "share of the unlabeled images that belong to the classes; the others are from --irrelevant_dataset",
        group="Unlabeled images", advanced=True, gt=0, le=1,
    )  # fmt: skip
    irrelevant_dataset: str | None = option(
        None,
        "source of the irrelevant images, of the same image shape; the same data set means its classes that "
        "--num_classes leaves out", group="Unlabeled images", advanced=True,
    )  # fmt: skip

    @field_validator("irrelevant_dataset")
    @classmethod
    def _irrelevant_dataset_is_known(cls, value: str | None) -> str | None:
        if value in OWN_IMAGES:
            raise ValueError("must be one of the published data sets")
        if value is not None:
            dataset_facts(value)
        return value

    @field_validator("unlabeled")
    @classmethod
    def _unlabeled_path_is_absolute(cls, value: str | None) -> str | None:
        """So that the set's name differs for paths of the same relative name in two directories."""
        if value is not None and not is_possible_path(Path(value)):
            raise ValueError("no file system takes a name this long")
        if value is None or value in UNLABELED_NAMES:
            return value
        path = location(value)
        # Of a store, whose paths are absolute, nobody is asked before the job begins.
        return str(path.absolute()) if isinstance(path, StorePath) or path.exists() else value

    @model_validator(mode="after")
    def _the_rest_is_that_of_lists(self) -> Self:
        if self.unlabeled == REST and self.dataset != "image_list":
            raise ValueError(
                f"--unlabeled {REST} means the images below --path that no list names: give --dataset image_list and "
                f"--list, or name a directory"
            )
        return self

    @model_validator(mode="after")
    def _irrelevant_images_have_a_source(self) -> Self:
        if (self.relevance < 1) != (self.irrelevant_dataset is not None):
            raise ValueError("--relevance below 1 and --irrelevant_dataset NAME go together")
        if self.relevance < 1 and self.imb_factor_unlabel is None:
            raise ValueError("--relevance needs an unlabeled part of known size: give --imb_factor_unlabel")
        if self.irrelevant_dataset == self.dataset and self.num_classes is None:
            raise ValueError(
                f"--irrelevant_dataset {self.dataset} is the data set itself: choose another, or leave some of its "
                f"classes out with --num_classes"
            )
        return self

    def unlabeled_location(self) -> Location:
        """The directory or file that --unlabeled names."""
        assert self.unlabeled is not None and self.unlabeled not in UNLABELED_NAMES
        return location(self.unlabeled).absolute()
