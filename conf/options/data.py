"""Which long-tailed data set: what every job on images understands, and the jobs that build and describe sets."""

from pathlib import Path
from typing import Any, Literal

from pydantic import FilePath, field_validator, model_validator

from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import JobOptions, TableFormat, fingerprint, option

IMAGE_TREES = ("folder", "image_list")
"""The data sets whose images are the user's own files."""
OWN_IMAGES = (*IMAGE_TREES, "table")
"""Those whose images are the user's own, in files or in a table."""

OF_UNLABELED = frozenset({"imb_factor_unlabel", "unlabeled", "unlabel_size_factor", "relevance", "irrelevant_dataset"})
"""The options that name the unlabeled part; the labelled one is the same whatever they are."""


class DataOptions(JobOptions):
    """Which long-tailed data set: these options alone decide what a prepared set contains."""

    dataset: str = option("digits", "name of the data set: a file of conf/datasets/")
    path: Path | None = option(
        None, "directory of the images, with --dataset folder or image_list; with table a Parquet or Delta table"
    )
    list_file: FilePath | None = option(
        None, "with --dataset image_list: the training images, a line each: path below --path, label",
        flags=("--list",),
    )  # fmt: skip
    test_list_file: FilePath | None = option(
        None, "with --dataset image_list: the test images; without it --test_fraction of the training images",
        flags=("--test_list",),
    )  # fmt: skip
    test_path: Path | None = option(
        None, "with --dataset table: a table of the test images; without it --test_fraction of the training images"
    )
    image_column: str = option("image", "with --dataset table, or a table for --unlabeled: the column of the images")
    label_column: str = option("label", "with --dataset table: the column of the labels")
    test_fraction: float = option(
        0.2, "share of each class for the test set, where the user's own images have none", gt=0, lt=1
    )
    image_size: int = option(224, "side to which the user's own images are scaled when they are loaded", gt=0)
    on_bad_image: Literal["stop", "skip"] = option(
        "stop", "what to do at one of the user's own images that cannot be decoded or is not there"
    )
    imb_type: Literal["exp", "step", "pareto", "natural"] = option(
        "exp", "profile of the labelled class sizes; natural: all training images"
    )
    imb_factor: float = option(0.01, "smallest class over largest class, 1/rho", gt=0, le=1)
    n_max: int = option(5000, "labelled images of the head class", gt=0)
    counts: str | None = option(
        None, "labelled images of each class, by class number, as 50,30,10; instead of a profile",
        pattern=r"^[0-9]+(,[0-9]+)+$",
    )  # fmt: skip
    imb_factor_unlabel: float | None = option(
        None, "1/rho_U of the unlabeled part; above 1 the labelled head is its tail; without it and --unlabeled there "
        "is no unlabeled part", gt=0,
    )  # fmt: skip
    unlabeled: str | None = option(
        None, "other images for the unlabeled part than the training split's: svhn_extra, a file laid out as "
        "ti_80M_selected.pickle, a directory of images, or a Parquet or Delta table of them; without "
        "--imb_factor_unlabel all of them",
    )  # fmt: skip
    relevance: float = option(
        1.0, "share of the unlabeled part that belongs to the classes; the rest is of --irrelevant_dataset", gt=0, le=1
    )
    irrelevant_dataset: str | None = option(
        None, "data set of the same image shape for the share 1 - relevance; the data set itself: its classes that "
        "--num_classes leaves out",
    )  # fmt: skip
    num_classes: int | None = option(None, "only the first so many classes of the data set", ge=2)
    unlabel_size_factor: float = option(5.0, "unlabeled images per labelled image (K of D_U@Kx)", gt=0)
    val_fraction: float = option(
        0.0, "share of each labelled class held out for validation (at least one image of a class of two or more)",
        ge=0, lt=1,
    )  # fmt: skip
    rand_number: int = option(0, "seed of the choice of images")
    many_shot: int = option(100, "a class with more training images than this is many-shot", ge=0)
    few_shot: int = option(20, "a class with fewer training images than this is few-shot", ge=0)
    data_dir: Path = option(Path("datasets"), "directory of the raw and the prepared data sets")

    @field_validator("dataset")
    @classmethod
    def _dataset_is_known(cls, value: str) -> str:
        dataset_facts(value)
        return value

    @field_validator("irrelevant_dataset")
    @classmethod
    def _irrelevant_dataset_is_known(cls, value: str | None) -> str | None:
        if value in OWN_IMAGES:
            raise ValueError("must be a data set of its own name")
        if value is not None:
            dataset_facts(value)
        return value

    @field_validator("path", "test_path")
    @classmethod
    def _place_is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such directory or file")
        return value

    @field_validator("path", "test_path", "list_file", "test_list_file")
    @classmethod
    def _place_is_absolute(cls, value: Path | None) -> Path | None:
        return value and value.absolute()

    @field_validator("unlabeled")
    @classmethod
    def _unlabeled_place_is_absolute(cls, value: str | None) -> str | None:
        """So that the set's name tells apart places that are called alike in two directories."""
        return str(Path(value).absolute()) if value is not None and Path(value).exists() else value

    @model_validator(mode="after")
    def _own_images_are_named(self) -> "DataOptions":
        if self.dataset in OWN_IMAGES and self.path is None:
            raise ValueError(f"--dataset {self.dataset} needs --path, where the images are")
        if self.dataset not in OWN_IMAGES and self.path is not None:
            raise ValueError(f"--path goes with --dataset {', '.join(OWN_IMAGES)}, not with {self.dataset}")
        if self.dataset in IMAGE_TREES and self.path is not None and not self.path.is_dir():
            raise ValueError(f"--path {self.path} is no directory: a tree of images was expected")
        if self.dataset != "table" and self.test_path is not None:
            raise ValueError("--test_path goes with --dataset table")
        if (self.dataset == "image_list") != (self.list_file is not None):
            raise ValueError("--dataset image_list and --list FILE go together")
        if self.test_list_file is not None and self.list_file is None:
            raise ValueError("--test_list goes with --list")
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
    def _classes_are_left_out_by_whoever_made_the_folders(self) -> "DataOptions":
        if self.num_classes is not None and self.dataset in OWN_IMAGES:
            raise ValueError(f"--num_classes is not for --dataset {self.dataset}: leave the images out themselves")
        return self

    @model_validator(mode="after")
    def _shot_groups_are_ordered(self) -> "DataOptions":
        if self.few_shot > self.many_shot + 1:
            raise ValueError(f"few_shot ({self.few_shot}) must not lie above many_shot ({self.many_shot})")
        return self

    def own_places(self) -> list[Path]:
        """Files and directories of the user's own that the prepared set is made from."""
        places = [self.path, self.test_path, self.list_file, self.test_list_file]
        if self.unlabeled is not None and Path(self.unlabeled).exists():
            places.append(Path(self.unlabeled))
        return [place for place in places if place is not None]

    def set_parameters(self) -> dict[str, Any]:
        """What decides the content of the prepared set, in a fixed order; without what has no effect."""
        names = ["dataset", *self._profile_parameters(), "val_fraction", "rand_number"]
        if self.dataset in IMAGE_TREES:
            names += ["path", "list_file", "test_list_file", "test_fraction", "image_size", "on_bad_image"]
        if self.dataset == "table":
            names += ["path", "test_path", "image_column", "label_column"]
            names += ["test_fraction", "image_size", "on_bad_image"]
        if self.num_classes is not None:
            names.append("num_classes")
        if self.unlabeled is not None:
            names.append("unlabeled")
            if "image_column" not in names and self.image_column != type(self).model_fields["image_column"].default:
                names.append("image_column")
        if self.imb_factor_unlabel is not None:
            names += ["imb_factor_unlabel", "unlabel_size_factor"]
        if self.relevance < 1:
            names += ["relevance", "irrelevant_dataset"]
        values = self.model_dump(mode="json")
        return {name: values[name] for name in names}

    def _profile_parameters(self) -> list[str]:
        if self.counts is not None:
            return ["counts"]
        return ["imb_type"] if self.imb_type == "natural" else ["imb_type", "imb_factor", "n_max"]

    def class_sizes(self) -> list[int] | None:
        """The numbers of --counts."""
        return None if self.counts is None else [int(count) for count in self.counts.split(",")]

    def set_name(self) -> str:
        """Directory name of the prepared set: readable, and different for different parameters."""
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


class PrepareOptions(DataOptions):
    """prepare: build the long-tailed Parquet data set."""

    format: TableFormat = option(
        "parquet", "delta: make the Parquet files a Delta Lake table as well (needs the extra delta)"
    )


class StatsOptions(DataOptions):
    """stats: class-distribution statistics of a prepared set, or of the labels of any table."""

    labels: Path | None = option(
        None, "a Parquet or Delta table whose --label_column is counted, instead of a prepared set"
    )
    pseudo_labels: Path | None = option(
        None, "table of gen_pseudolabels for the set: predicted classes, quantiles of confidence, precision, recall"
    )

    @field_validator("labels", "pseudo_labels")
    @classmethod
    def _table_is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such table")
        return value and value.absolute()

    @model_validator(mode="after")
    def _labels_stand_alone(self) -> "StatsOptions":
        if self.labels is not None and self.pseudo_labels is not None:
            raise ValueError("--pseudo_labels are those of a prepared set: leave out --labels")
        return self
