"""The jobs that apply a trained classifier: pseudo-labels and scores."""

from pathlib import Path
from typing import ClassVar

from pydantic import FilePath, model_validator

from longtail.conf.options.base import DELTA_HELP, MOST_THREADS, TableFormat, option
from longtail.conf.options.data import DataOptions
from longtail.conf.options.training import LossName, NetworkName
from longtail.conf.vocabulary import SPLITS

INFERENCE_BATCH_SIZE = 500
"""Divides the 2000 rows of Spark's Arrow batches (spark_jobs/cluster/session.py), so that no batch needs padding."""


class InferenceOptions(DataOptions):
    """Options of every job that uses a trained classifier."""

    arch: NetworkName | None = option(
        None, "package.module:factory; needed only if the checkpoint's network is your own", group="Network",
        flags=("-a",), advanced=True,
    )  # fmt: skip


class GenPseudolabelsOptions(InferenceOptions):
    """gen_pseudolabels: pseudo-labels for the unlabeled part by a trained classifier, partition by partition.

    The data set is by default that of the checkpoint.
    """

    own_defaults: ClassVar[frozenset[str]] = frozenset({"arch", "batch_size"})
    examples = (
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --dataset digits --imb_factor_unlabel 1",
            "labels by the classifier that `longtail train` learned on the digits",
        ),
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --dataset digits --imb_factor_unlabel 1 --threshold 0.9",
            "only the labels with a confidence of at least 0.9",
        ),
    )

    resume: FilePath = option(..., "checkpoint of the classifier", group="Input")
    threshold: float | None = option(None, "keep pseudo-labels of at least this confidence", group="Method", ge=0, le=1)
    top_k: int | None = option(None, "keep the N most confident pseudo-labels of each class", group="Method", gt=0)
    align: float | None = option(
        None,
        "distribution alignment: scale predictions so that their mean matches the labelled class shares raised to this "
        "power (0: uniform)", group="Method", ge=0, le=1,
    )  # fmt: skip
    batch_size: int = option(
        INFERENCE_BATCH_SIZE, "images per forward pass", group="Spark", flags=("-b",), advanced=True, gt=0, le=100_000
    )
    threads: int | None = option(
        None, "CPU threads per task; default: an equal share of the cores", group="Spark", advanced=True, gt=0,
        le=MOST_THREADS,
    )  # fmt: skip
    output_dir: Path | None = option(
        None, "directory to write to; default: pseudo_labels/ beside the prepared sets", group="Output"
    )
    output_filename: str = option(
        "pseudo_labels.parquet", "name in --output_dir; a name in .pickle writes the published layout as well",
        group="Output", pattern=r"^[A-Za-z0-9_.-]*[A-Za-z0-9_-]$",
    )  # fmt: skip
    format: TableFormat = option("parquet", DELTA_HELP, group="Output")

    @model_validator(mode="after")
    def _the_published_layout_has_every_image(self) -> "GenPseudolabelsOptions":
        selected = self.threshold is not None or self.top_k is not None or self.align is not None
        if self.output_filename.endswith(".pickle") and selected:
            raise ValueError(
                "the published layout has a plain label for every image: give --threshold, --top_k and --align with a "
                "name in .parquet"
            )
        return self


class EvaluateOptions(InferenceOptions):
    """evaluate: scores and features of a checkpoint, partition by partition.

    The data set is by default that of the checkpoint.
    """

    own_defaults: ClassVar[frozenset[str]] = frozenset({"arch", "batch_size"})
    examples = (
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar", "scores of the classifier that `longtail train` learned"),
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar --splits test --features", "with the images' features"),
    )

    resume: FilePath = option(..., "checkpoint to evaluate", group="Input")
    loss_type: LossName | None = option(
        None, "package.module:function; needed only if the checkpoint's loss is your own",
        group="Loss and re-balancing", advanced=True,
    )  # fmt: skip
    splits: str = option(
        "val,test", "splits, separated by commas: train, val, test, and unlabeled (which has no scores)",
        group="Method", pattern=rf"^({'|'.join(SPLITS)})(,({'|'.join(SPLITS)}))*$",
    )  # fmt: skip
    logit_adjustment: float | None = option(
        None,
        "subtract this times the log class prior of the checkpoint's training from the logits",
        group="Method",
        ge=0,
    )
    features: bool = option(False, "write the features of every image as well", group="Output")
    batch_size: int = option(
        INFERENCE_BATCH_SIZE, "images per forward pass", group="Spark", flags=("-b",), advanced=True, gt=0, le=100_000
    )
    threads: int | None = option(
        None, "CPU threads per task; default: an equal share of the cores", group="Spark", advanced=True, gt=0,
        le=MOST_THREADS,
    )  # fmt: skip
    output_dir: Path | None = option(
        None, "directory to write to; default: evaluation/ beside the checkpoint", group="Output"
    )
