"""The options that name a long-tailed data set, and the name of the prepared set that they decide."""

from collections.abc import Iterable
from typing import Any

from longtail.conf.base.locations import Location
from longtail.conf.options.base import SparkJobOptions, fingerprint
from longtail.conf.options.source import IMAGE_TREES, OWN_IMAGES
from longtail.conf.options.unlabeled import UNLABELED_NAMES, UnlabeledOptions

LOCATION_OPTIONS = frozenset(
    {
        "data_dir", "dataset", "path", "val_path", "test_path", "list_file", "val_list_file", "test_list_file",
        "unlabeled", "irrelevant_dataset",
    }
)  # fmt: skip
"""Options that name where images are read from, downloaded from or written to."""

OF_UNLABELED = frozenset({
    "imb_factor_unlabel", "unlabeled", "unlabel_size_factor", "relevance", "irrelevant_dataset", "keep_labelled_copies",
})  # fmt: skip
"""Options of the unlabeled part; the labelled part does not depend on them."""


class DataOptions(UnlabeledOptions):
    """The long-tailed data set; these options alone decide what a prepared set contains."""

    def own_paths(self) -> list[Location]:
        """The user's files and directories that the prepared set is made from."""
        paths = [self.path, self.val_path, self.test_path, self.list_file, self.val_list_file, self.test_list_file]
        if self.unlabeled is not None and self.unlabeled not in UNLABELED_NAMES and self.unlabeled_location().exists():
            paths.append(self.unlabeled_location())
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

    def without_effect(self, given: Iterable[str]) -> dict[str, str]:
        """Of the names of options that were given, those that other options leave without effect, and why."""
        reasons: dict[str, str] = {}
        if self.counts is not None:
            reasons = dict.fromkeys(("imb_type", "imb_factor", "n_max"), "--counts has the sizes")
        elif self.imb_type == "natural":
            why = "--imb_type natural uses all images; for a long tail give --imb_type exp"
            reasons = dict.fromkeys(("imb_factor", "n_max"), why)
        if self.imb_factor_unlabel is None:
            reasons["unlabel_size_factor"] = "it goes with --imb_factor_unlabel"
        if (self.val_path or self.val_list_file) is not None:
            reasons["val_fraction"] = "the validation images are those that you name"
        return {name: why for name, why in reasons.items() if name in given}

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
