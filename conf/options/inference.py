"""What a trained classifier says of images: pseudo-labels and scores."""

from pathlib import Path
from typing import ClassVar

from pydantic import FilePath, model_validator

from longtail.conf.options.base import TableFormat, option
from longtail.conf.options.data import DataOptions

INFERENCE_BATCH_SIZE = 500
"""Divides the 2000 rows of Spark's Arrow batches (spark_jobs/cluster/session.py), so that no batch needs padding."""


class GenPseudolabelsOptions(DataOptions):
    """gen_pseudolabels: label the unlabeled part with a trained classifier, a partition at a time."""

    own_defaults: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    resume: FilePath = option(..., "checkpoint of the base classifier")
    batch_size: int = option(INFERENCE_BATCH_SIZE, "images a forward pass", flags=("-b", "--batch-size"), gt=0)
    threads: int | None = option(None, "CPU threads of a task; by default its share of the cores", gt=0)
    align: float | None = option(
        None, "distribution alignment: pull the mean prediction to the labelled class sizes to this power (1: as the "
        "labelled part; 0: classes alike)", ge=0, le=1,
    )  # fmt: skip
    threshold: float | None = option(None, "keep pseudo-labels of at least this confidence", ge=0, le=1)
    top_k: int | None = option(None, "keep the most confident of each class, at most so many", gt=0)
    output_dir: Path | None = option(None, "where to write; by default pseudo_labels/ beside the prepared sets")
    output_filename: str = option(
        "pseudo_labels.parquet", "name in --output_dir; with .pickle the published layout is written as well",
        pattern=r"^[A-Za-z0-9_.-]*[A-Za-z0-9_-]$",
    )  # fmt: skip

    format: TableFormat = option(
        "parquet", "delta: make the Parquet files a Delta Lake table as well (needs the extra delta)"
    )

    @model_validator(mode="after")
    def _the_published_layout_has_every_image(self) -> "GenPseudolabelsOptions":
        if self.output_filename.endswith(".pickle") and (self.threshold is not None or self.top_k is not None):
            raise ValueError(
                "the published layout has a label for every image: give --threshold and --top_k with a name in .parquet"
            )
        return self


class EvaluateOptions(DataOptions):
    """evaluate: scores of a checkpoint, and on demand its features, a partition at a time."""

    resume: FilePath = option(..., "checkpoint to evaluate")
    batch_size: int = option(INFERENCE_BATCH_SIZE, "images a forward pass", flags=("-b", "--batch-size"), gt=0)
    threads: int | None = option(None, "CPU threads of a task; by default its share of the cores", gt=0)
    splits: str = option(
        "val,test", "parts of the set, with commas between: train, val, test (scores), unlabeled (no scores)",
        pattern=r"^(train|val|unlabeled|test)(,(train|val|unlabeled|test))*$",
    )  # fmt: skip
    logit_adjustment: float | None = option(
        None, "lower the logits by this times the log prior of the checkpoint's training (post-hoc)", ge=0
    )
    features: bool = option(False, "also write the features of every image, before the classifier")
    output_dir: Path | None = option(None, "where to write; by default evaluation/ beside the checkpoint")
