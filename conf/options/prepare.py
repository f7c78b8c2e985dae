"""Options of the jobs that build and describe sets."""

from typing import ClassVar, Self

from pydantic import field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.options.base import DELTA_HELP, TableFormat, option
from longtail.conf.options.data import DataOptions


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
        if value is not None and value.name.endswith(".pickle"):
            raise ValueError("a table was expected: gen_pseudolabels writes one beside a pickle")
        return value and value.absolute()

    @model_validator(mode="after")
    def _labels_replace_the_set(self) -> Self:
        if self.labels is not None and self.pseudo_labels is not None:
            raise ValueError("--pseudo_labels belong to a prepared set: leave out --labels")
        return self
