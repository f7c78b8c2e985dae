"""Options that name a long-tailed data set, and those of the jobs that build and describe sets."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from longtail.conf.base.locations import Location, location
from longtail.conf.base.paths import is_possible_path
from longtail.conf.base.store_path import StorePath
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import DELTA_HELP, SparkJobOptions, TableFormat, fingerprint, option

IMAGE_TREES = ("folder", "image_list")
"""The data sets whose images are the user's files."""
OWN_IMAGES = (*IMAGE_TREES, "table")
"""The data sets whose images are the user's, in files or in a table."""

PLACES = frozenset(
    {
        "data_dir", "dataset", "path", "val_path", "test_path", "list_file", "val_list_file", "test_list_file",
        "unlabeled", "irrelevant_dataset",
    }
)  # fmt: skip
"""Options that name where images are read from, downloaded from or written to."""

SET_IS_PREPARED = {"set_is_prepared": True}
"""Context of a validation of options whose set is there: the images that it was made from may be gone."""

REST = "rest"
UNLABELED_NAMES = (REST, "svhn_extra")
"""Values of --unlabeled that are no paths; a directory of such a name is ./NAME."""

OF_UNLABELED = frozenset({
    "imb_factor_unlabel", "unlabeled", "unlabel_size_factor", "relevance", "irrelevant_dataset", "keep_labelled_copies",
})  # fmt: skip
"""Options of the unlabeled part; the labelled part does not depend on them."""


class DataOptions(SparkJobOptions):
    """The long-tailed data set; these options alone decide what a prepared set contains."""

    dataset: str = option("digits", "name of the data set, a file of conf/datasets/", group="Data set")
    data_dir: Location = option(
        Path("datasets"), "directory of the raw and the prepared data sets", group="Data set", in_run_name=False
    )
    num_classes: int | None = option(
        None, "use only the first N classes of the data set", group="Data set", advanced=True, ge=2
    )
    path: Location | None = option(
        None,
        "your images: a directory (--dataset folder or image_list), or a Parquet or Delta table (--dataset table)",
        group="Your own images",
    )
    list_file: Location | None = option(
        None,
        "training images of --dataset image_list: a line per image with its path below --path and its label",
        group="Your own images", flags=("--list",), advanced=True,
    )  # fmt: skip
    test_list_file: Location | None = option(
        None, "test images of --dataset image_list; without it, --test_fraction of the training images",
        group="Your own images", flags=("--test_list",), advanced=True,
    )  # fmt: skip
    val_list_file: Location | None = option(
        None, "validation images of --dataset image_list, in place of --val_fraction",
        group="Your own images", flags=("--val_list",), advanced=True,
    )  # fmt: skip
    test_path: Location | None = option(
        None,
        "test images elsewhere: class folders (--dataset folder) or a table (--dataset table); without them, those of "
        "--layout, or --test_fraction of the training images", group="Your own images", advanced=True,
    )  # fmt: skip
    val_path: Location | None = option(
        None,
        "validation images elsewhere, in place of --val_fraction: class folders or a table", group="Your own images",
        advanced=True,
    )  # fmt: skip
    layout: Literal["auto", "classes", "train", "train_val", "train_test", "train_val_test"] = option(
        "auto",
        "layout of --path: class folders, or split folders that contain class folders, of which those named are used; "
        "auto decides by the folders' names, and uses val/ as the test set if there is no test/",
        group="Your own images", advanced=True,
    )  # fmt: skip
    image_column: str = option(
        "image", "column of the images in a table, or of their paths in a list", group="Your own images", advanced=True
    )
    label_column: str = option(
        "label", "column of the labels in a table or a list", group="Your own images", advanced=True
    )
    test_fraction: float = option(
        0.2, "share of each class used as test set if your images have none", group="Your own images", advanced=True,
        gt=0, lt=1,
    )  # fmt: skip
    image_size: int = option(
        224,
        "side in pixels, from 8, to which your images are scaled when loaded; the default depends on --dataset",
        group="Your own images",
        advanced=True,
        ge=8,
        le=4096,
    )
    on_bad_image: Literal["stop", "skip"] = option(
        "stop", "what to do with one of your images that is missing or cannot be decoded",
        group="Your own images", advanced=True,
    )  # fmt: skip
    imb_type: Literal["exp", "step", "pareto", "natural"] = option(
        "exp", "profile of the labelled class sizes; natural keeps all training images", group="Long tail"
    )
    imb_factor: float = option(
        0.01, "ratio of the smallest to the largest labelled class (1/rho; 0.01 is 100:1)", group="Long tail", gt=0
    )
    n_max: int = option(5000, "labelled images of the largest class", group="Long tail", gt=0)
    val_fraction: float = option(
        0.0, "share of each labelled class held out for validation",
        group="Long tail", ge=0, lt=1,
    )  # fmt: skip
    counts: str | None = option(
        None, "labelled images of each class in the order of the labels, as 50,30,10; replaces the profile",
        group="Long tail", advanced=True,
    )  # fmt: skip
    rand_number: int = option(0, "seed of the data selection (a training has --seed)", group="Long tail", advanced=True)
    many_shot: int = option(
        100, "classes with more training images than this are many-shot", group="Long tail", advanced=True, ge=0
    )
    few_shot: int = option(
        20, "classes with fewer training images than this are few-shot", group="Long tail", advanced=True, ge=0
    )
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
        "keep unlabeled images that are exact or near copies of labelled ones; copies of test images are always left "
        "out", group="Unlabeled images", advanced=True,
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

    @field_validator("imb_factor")
    @classmethod
    def _imb_factor_is_no_rho(cls, value: float) -> float:
        if value > 1:
            raise ValueError(
                f"it is at most 1, the smallest class over the largest: for rho = {value:g} give {1 / value:g}"
            )
        return value

    @field_validator("counts")
    @classmethod
    def _counts_are_numbers(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9]+(,[0-9]+)+", value):
            raise ValueError("give at least two numbers, separated by commas: 50,30,10")
        return value

    @field_validator("dataset")
    @classmethod
    def _dataset_is_known(cls, value: str) -> str:
        dataset_facts(value)
        return value

    @field_validator("irrelevant_dataset")
    @classmethod
    def _irrelevant_dataset_is_known(cls, value: str | None) -> str | None:
        if value in OWN_IMAGES:
            raise ValueError("must be one of the published data sets")
        if value is not None:
            dataset_facts(value)
        return value

    @field_validator("path", "val_path", "test_path")
    @classmethod
    def _path_exists(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None and not value.exists() and info.context != SET_IS_PREPARED:
            raise ValueError("there is no such directory or file")
        return value

    @field_validator("list_file", "val_list_file", "test_list_file")
    @classmethod
    def _list_is_a_file(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None and not value.is_file() and info.context != SET_IS_PREPARED:
            raise ValueError("there is no such file")
        return value

    @field_validator("path", "val_path", "test_path", "list_file", "val_list_file", "test_list_file")
    @classmethod
    def _path_is_absolute(cls, value: Location | None) -> Location | None:
        return value and value.absolute()

    @field_validator("unlabeled")
    @classmethod
    def _unlabeled_path_is_absolute(cls, value: str | None) -> str | None:
        """So that the set's name differs for paths of the same relative name in two directories."""
        if value is not None and not is_possible_path(Path(value)):
            raise ValueError("no file system takes a name this long")
        if value is None or value in UNLABELED_NAMES:
            return value
        place = location(value)
        # Of a store, whose places are absolute, nobody is asked before the job begins.
        return str(place.absolute()) if isinstance(place, StorePath) or place.exists() else value

    @model_validator(mode="after")
    def _own_images_are_named(self, info: ValidationInfo) -> "DataOptions":
        is_prepared = info.context == SET_IS_PREPARED
        if self.dataset in OWN_IMAGES and self.path is None:
            raise ValueError(f"--dataset {self.dataset} needs --path, the directory or table of the images")
        if self.dataset not in OWN_IMAGES and self.path is not None:
            raise ValueError(
                f"--path goes with --dataset {', '.join(OWN_IMAGES)}, not with {self.dataset}: add --dataset folder"
            )
        if self.dataset in IMAGE_TREES and self.path is not None and not (self.path.is_dir() or is_prepared):
            raise ValueError(f"--path {self.path} is not a directory: a directory of images was expected")
        for name, path in (("val_path", self.val_path), ("test_path", self.test_path)):
            if path is not None and self.dataset not in ("folder", "table"):
                raise ValueError(f"--{name} goes with --dataset folder or table")
            if path is not None and self.dataset == "folder" and not (path.is_dir() or is_prepared):
                raise ValueError(f"--{name} {path} is not a directory: a directory of class folders was expected")
        if self.layout != "auto" and self.dataset != "folder":
            raise ValueError("--layout goes with --dataset folder")
        if (self.dataset == "image_list") != (self.list_file is not None):
            raise ValueError("--dataset image_list and --list FILE go together")
        if (self.test_list_file or self.val_list_file) is not None and self.list_file is None:
            raise ValueError("--test_list and --val_list go with --list")
        return self

    @model_validator(mode="after")
    def _the_rest_is_that_of_lists(self) -> "DataOptions":
        if self.unlabeled == REST and self.dataset != "image_list":
            raise ValueError(
                f"--unlabeled {REST} means the images below --path that no list names: give --dataset image_list and "
                f"--list, or name a directory"
            )
        return self

    @model_validator(mode="after")
    def _irrelevant_images_have_a_source(self) -> "DataOptions":
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

    @model_validator(mode="after")
    def _own_images_have_no_num_classes(self) -> "DataOptions":
        if self.num_classes is not None and self.dataset in OWN_IMAGES:
            raise ValueError(
                f"--num_classes is not for --dataset {self.dataset}: leave out the images of the other classes"
            )
        return self

    @model_validator(mode="after")
    def _shot_groups_are_ordered(self) -> "DataOptions":
        if self.few_shot > self.many_shot + 1:
            raise ValueError(f"--few_shot {self.few_shot} must be at most --many_shot {self.many_shot} + 1")
        return self

    def unlabeled_place(self) -> Location:
        """The directory or file that --unlabeled names."""
        assert self.unlabeled is not None and self.unlabeled not in UNLABELED_NAMES
        return location(self.unlabeled).absolute()

    def own_paths(self) -> list[Location]:
        """The user's files and directories that the prepared set is made from."""
        paths = [self.path, self.val_path, self.test_path, self.list_file, self.val_list_file, self.test_list_file]
        if self.unlabeled is not None and self.unlabeled not in UNLABELED_NAMES and self.unlabeled_place().exists():
            paths.append(self.unlabeled_place())
        return [path for path in paths if path is not None]

    def set_parameters(self) -> dict[str, Any]:
        """The options that decide the content of the prepared set, in a fixed order, without those of no effect."""
        names = ["dataset", *self._profile_parameters(), "val_fraction", "rand_number"]
        if self.dataset in IMAGE_TREES:
            names += ["path", "layout", "val_path", "test_path", "list_file", "val_list_file", "test_list_file"]
        if self.dataset == "table":
            names += ["path", "val_path", "test_path"]
        if self.dataset in ("image_list", "table"):
            names += ["image_column", "label_column"]
        if self.dataset in OWN_IMAGES:
            names += ["test_fraction", "image_size", "on_bad_image"]
        if self.num_classes is not None:
            names.append("num_classes")
        names += self._unlabeled_parameters(named=names)
        values = self.recorded()
        return {name: values[name] for name in names}

    def _unlabeled_parameters(self, *, named: list[str]) -> list[str]:
        names = []
        if self.unlabeled is not None:
            names.append("unlabeled")
            if "image_column" not in named and self.image_column != type(self).model_fields["image_column"].default:
                names.append("image_column")
        if self.imb_factor_unlabel is not None:
            names += ["imb_factor_unlabel", "unlabel_size_factor"]
        if self.relevance < 1:
            names += ["relevance", "irrelevant_dataset"]
        if names and self.keep_labelled_copies:
            names.append("keep_labelled_copies")
        return names

    def _profile_parameters(self) -> list[str]:
        if self.counts is not None:
            return ["counts"]
        return ["imb_type"] if self.imb_type == "natural" else ["imb_type", "imb_factor", "n_max"]

    def class_sizes(self) -> list[int] | None:
        """The class sizes in --counts."""
        return None if self.counts is None else [int(count) for count in self.counts.split(",")]

    def set_name(self) -> str:
        """Directory name of the prepared set: readable, and different for different set_parameters."""
        name = self.dataset if self.num_classes is None else f"{self.dataset}-c{self.num_classes}"
        if self.counts is not None:
            name += "-counts"
        elif self.imb_type == "natural":
            name += "-natural"
        else:
            name += f"-{self.imb_type}-imb{self.imb_factor:g}-n{self.n_max}"
        if self.imb_factor_unlabel is not None:
            name += f"-U{self.imb_factor_unlabel:g}x{self.unlabel_size_factor:g}"
        elif self.unlabeled is not None:
            name += "-Uall"
        if self.relevance < 1:
            name += f"-R{self.relevance:g}"
        return f"{name}-s{self.rand_number}-{fingerprint(self.set_parameters())}"


DATA_OPTIONS = frozenset(DataOptions.model_fields) - frozenset(SparkJobOptions.model_fields)
"""The options that name a data set."""


class PrepareOptions(DataOptions):
    """prepare: build a long-tailed Parquet data set."""

    examples = (
        ("", "the digits of scikit-learn, 40 images of the largest class and 2 of the smallest"),
        ("--imb_factor_unlabel 1", "the same with an unlabeled part in which all classes have the same size"),
        ("--dataset cifar10 --imb_type step --imb_factor 0.1", "CIFAR-10, with five large and five small classes"),
    )

    format: TableFormat = option("parquet", DELTA_HELP, group="Output")


class StatsOptions(DataOptions):
    """stats: class-distribution statistics of a prepared set, or of the labels of any table."""

    refused: ClassVar[frozenset[str]] = frozenset()
    examples = (
        ("", "class sizes, imbalance and duplicates of the digits"),
        ("--dataset cifar10 --imb_factor_unlabel 1 --n_max 800", "those of CIFAR-10 with an unlabeled part"),
    )

    labels: Location | None = option(
        None, "count the --label_column of this Parquet or Delta table, instead of a prepared set", group="Input"
    )
    pseudo_labels: Location | None = option(
        None,
        "table of gen_pseudolabels for the set: adds predicted classes, quantiles of confidence, precision and recall",
        group="Input",
    )

    @field_validator("labels", "pseudo_labels")
    @classmethod
    def _table_is_there(cls, value: Location | None) -> Location | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such table")
        return value and value.absolute()

    @model_validator(mode="after")
    def _labels_replace_the_set(self) -> "StatsOptions":
        if self.labels is not None and self.pseudo_labels is not None:
            raise ValueError("--pseudo_labels belong to a prepared set: leave out --labels")
        return self
