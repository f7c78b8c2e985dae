"""Options that name the labelled images: a published data set, or the user's own."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import SparkJobOptions, option

IMAGE_TREES = ("folder", "image_list")
"""The data sets whose images are the user's files."""
OWN_IMAGES = (*IMAGE_TREES, "table")
"""The data sets whose images are the user's, in files or in a table."""

SET_IS_PREPARED = {"set_is_prepared": True}
"""Context of a validation of options whose set is there: the images that it was made from may be gone."""


class SourceOptions(SparkJobOptions):
    """Where the labelled images come from."""

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
        "layout of --path, class folders or split folders that contain class folders, of which those named are used; "
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
        "side in pixels, from 8, to which your images are scaled when loaded; default: 32, or 224 for --dataset "
        "image_list",
        group="Your own images",
        advanced=True,
        ge=8,
        le=4096,
    )
    on_bad_image: Literal["stop", "skip"] = option(
        "stop", "what to do with one of your images that is missing or cannot be decoded",
        group="Your own images", advanced=True,
    )  # fmt: skip

    @field_validator("dataset")
    @classmethod
    def _dataset_is_known(cls, value: str) -> str:
        dataset_facts(value)
        return value

    @field_validator("path", "val_path", "test_path")
    @classmethod
    def _path_exists(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None and info.context != SET_IS_PREPARED and not value.exists():
            raise ValueError("there is no such directory or file")
        return value

    @field_validator("list_file", "val_list_file", "test_list_file")
    @classmethod
    def _list_is_a_file(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None and info.context != SET_IS_PREPARED and not value.is_file():
            raise ValueError("there is no such file")
        return value

    @field_validator("path", "val_path", "test_path", "list_file", "val_list_file", "test_list_file")
    @classmethod
    def _path_is_absolute(cls, value: Location | None) -> Location | None:
        return value and value.absolute()

    @model_validator(mode="after")
    def _own_images_are_named(self, info: ValidationInfo) -> Self:
        is_prepared = info.context == SET_IS_PREPARED
        if self.dataset in OWN_IMAGES and self.path is None:
            raise ValueError(f"--dataset {self.dataset} needs --path, the directory or table of the images")
        if self.dataset not in OWN_IMAGES and self.path is not None:
            raise ValueError(
                f"--path goes with --dataset {', '.join(OWN_IMAGES)}, not with {self.dataset}: add --dataset folder"
            )
        if self.dataset in IMAGE_TREES and self.path is not None and not (is_prepared or self.path.is_dir()):
            raise ValueError(f"--path {self.path} is not a directory: a directory of images was expected")
        for name, path in (("val_path", self.val_path), ("test_path", self.test_path)):
            if path is not None and self.dataset not in ("folder", "table"):
                raise ValueError(f"--{name} goes with --dataset folder or table")
            if path is not None and self.dataset == "folder" and not (is_prepared or path.is_dir()):
                raise ValueError(f"--{name} {path} is not a directory: a directory of class folders was expected")
        if self.layout != "auto" and self.dataset != "folder":
            raise ValueError("--layout goes with --dataset folder")
        if (self.dataset == "image_list") != (self.list_file is not None):
            raise ValueError("--dataset image_list and --list FILE go together")
        if (self.test_list_file or self.val_list_file) is not None and self.list_file is None:
            raise ValueError("--test_list and --val_list go with --list")
        return self

    @model_validator(mode="after")
    def _own_images_have_no_num_classes(self) -> Self:
        if self.num_classes is not None and self.dataset in OWN_IMAGES:
            raise ValueError(
                f"--num_classes is not for --dataset {self.dataset}: leave out the images of the other classes"
            )
        return self
