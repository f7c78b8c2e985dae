"""The jobs that apply a trained classifier: pseudo-labels and scores."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.base.paths import is_possible_path
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.base import DELTA_HELP, JobOptions, SparkJobOptions, TableFormat, of_form, option
from longtail.conf.options.classifier import images_per_pass, own_loss, own_network, threads_option
from longtail.conf.options.data import DataOptions
from longtail.conf.options.live import Interval, KafkaClientOptions, Topic
from longtail.conf.options.location_types import DirectoryLocation, FileLocation
from longtail.conf.options.training import LossName, NetworkName
from longtail.conf.vocabulary import SPLITS


class InferenceOptions(DataOptions):
    """Options of every job that uses a trained classifier."""

    arch: NetworkName | None = own_network()


FileName = Annotated[
    str, of_form(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]", "a name of letters, digits, _, . and - that does not end in a dot")
]

PRIORS = ("uniform", "train", "estimated")


class PriorOptions(JobOptions):
    """Options of jobs that can predict for other class shares than a checkpoint's."""

    logit_adjustment: float | None = option(
        None,
        "subtract this times the log class prior of the checkpoint's training from the logits, if the training did not "
        "correct for it (train --tau)",
        group="Method",
        ge=0,
    )
    prior: str | None = option(
        None,
        "class prior to assume: uniform; train, that of the training; estimated, from the images themselves; or a CSV "
        "file with the columns class_name and share. Default: the prior that the checkpoint was calibrated for, or "
        "else trained with",
        group="Method",
    )

    @field_validator("prior")
    @classmethod
    def _prior_is_known_or_a_file(cls, value: str | None) -> str | None:
        if value is not None and value not in PRIORS and not (is_possible_path(Path(value)) and Path(value).is_file()):
            raise ValueError(
                f"{', '.join(PRIORS)} or a file of class shares was expected, and there is no such file"
                f"{did_you_mean(value, PRIORS)}"
            )
        return value

    @model_validator(mode="after")
    def _class_shares_are_corrected_once(self) -> Self:
        if self.prior is not None and self.logit_adjustment is not None:
            raise ValueError("--prior and --logit_adjustment both correct for class shares: give one of them")
        return self


class GenPseudolabelsOptions(InferenceOptions):
    """gen_pseudolabels: pseudo-labels for the unlabeled part by a trained classifier, partition by partition.

    The data set is by default that of the checkpoint.
    """

    refused: ClassVar[frozenset[str]] = frozenset()
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

    resume: FileLocation = option(..., "checkpoint of the classifier", group="Input")
    threshold: float | None = option(
        None,
        "keep pseudo-labels of at least this confidence in the table (train_semi can ignore more of them by "
        "--confidence_threshold)", group="Method", ge=0, le=1,
    )  # fmt: skip
    top_k: int | None = option(None, "keep the N most confident pseudo-labels of each class", group="Method", gt=0)
    align: float | None = option(
        None,
        "distribution alignment: scale predictions so that their mean matches the labelled class shares raised to this "
        "power (0: uniform)", group="Method", ge=0, le=1,
    )  # fmt: skip
    wrong_share: float | None = option(
        None,
        "for studies: in place of the classifier's labels the withheld true ones, this share of them replaced by the "
        "classes that the classifier confuses it with", group="Method", advanced=True, ge=0, le=1,
    )  # fmt: skip
    batch_size: int = images_per_pass()
    threads: int | None = threads_option()
    output_dir: Location | None = option(
        None, "directory to write to; default: pseudo_labels/ beside the prepared sets", group="Output"
    )
    output_filename: FileName = option(
        "pseudo_labels.parquet", "name in --output_dir; a name in .pickle writes the published layout as well",
        group="Output",
    )  # fmt: skip
    probabilities: bool = option(
        False, "write the probability of every class as well, which train_semi --pseudo_label_type soft needs",
        group="Output",
    )  # fmt: skip
    format: TableFormat = option("parquet", DELTA_HELP, group="Output")

    def labels_name(self) -> str:
        """The name of the set, and what changes its labels: different for whatever can change the table."""
        changes = {name: getattr(self, name) for name in ("wrong_share", "align", "threshold", "top_k")}
        given = [f"-{name}{value:g}" for name, value in changes.items() if value is not None]
        return self.set_name() + "".join([*given, *(["-probabilities"] if self.probabilities else [])])

    @model_validator(mode="after")
    def _true_labels_have_no_confidence(self) -> "GenPseudolabelsOptions":
        if self.wrong_share is not None and (self.threshold or self.top_k or self.align is not None):
            raise ValueError("--wrong_share labels without confidences: leave out --threshold, --top_k and --align")
        return self

    @model_validator(mode="after")
    def _the_published_layout_has_every_image(self) -> "GenPseudolabelsOptions":
        of_table = (self.threshold, self.top_k, self.align, self.wrong_share)
        selected = any(value is not None for value in of_table)
        if self.output_filename.endswith(".pickle") and selected:
            raise ValueError(
                "the published layout has a plain label for every image: give --threshold, --top_k, --align and "
                "--wrong_share with a name in .parquet"
            )
        return self


class EvaluateOptions(InferenceOptions, PriorOptions):
    """evaluate: scores and features of a checkpoint, partition by partition.

    The data set is by default that of the checkpoint.
    """

    refused: ClassVar[frozenset[str]] = frozenset()
    own_defaults: ClassVar[frozenset[str]] = frozenset({"arch", "batch_size"})
    examples = (
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar", "scores of the classifier that `longtail train` learned"),
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar --splits test --features", "with the images' features"),
    )

    resume: FileLocation = option(..., "checkpoint to evaluate", group="Input")
    path: Location | None = option(
        None,
        "labelled images to score against the checkpoint alone: a directory of class folders, or a Parquet or Delta "
        "table; with --dataset folder, image_list or table, the images of a data set that is prepared from them",
        group="Your own images",
    )
    loss_type: LossName | None = own_loss()
    splits: str = option(
        "val,test", "splits, separated by commas: train, val, test, and unlabeled (which has no scores)",
        group="Method",
    )  # fmt: skip
    probabilities: bool = option(False, "write the probability of every class as well", group="Output")
    features: bool = option(False, "write the features of every image as well", group="Output")
    batch_size: int = images_per_pass()
    threads: int | None = threads_option()
    output_dir: Location | None = option(
        None, "directory to write to; default: evaluation/ beside the checkpoint", group="Output"
    )

    @field_validator("splits")
    @classmethod
    def _splits_are_known(cls, value: str) -> str:
        if unknown := [name for name in value.split(",") if name not in SPLITS]:
            raise ValueError(
                f"there is no split {unknown[0]!r}{did_you_mean(unknown[0], SPLITS)}: give {', '.join(SPLITS)}, or "
                f"several of them with commas between"
            )
        return value


class ImagesOptions(SparkJobOptions):
    """Options of the jobs that apply a checkpoint to images that belong to no data set."""

    resume: FileLocation = option(..., "checkpoint of the classifier", group="Input")
    image_column: str = option("image", "column of the images in a table", group="Your own images")
    on_bad_image: Literal["stop", "skip"] = option(
        "stop", "what to do with an image that cannot be decoded; skip lists it with the reason",
        group="Your own images",
    )  # fmt: skip
    arch: NetworkName | None = own_network()
    batch_size: int = images_per_pass()
    threads: int | None = threads_option()


def _existing(value: Location) -> Location:
    if not value.exists():
        raise ValueError("there is no such directory or file")
    return value.absolute()


ExistingImages = Annotated[Location, AfterValidator(_existing)]
_PATH_HELP = "the images: a directory of files, or a Parquet or Delta table"


class NewImagesOptions(ImagesOptions):
    """The same, for the jobs that read the images of a location."""

    path: ExistingImages = option(..., _PATH_HELP, group="Your own images")


class PredictOptions(ImagesOptions, PriorOptions, KafkaClientOptions):
    """predict: predict the classes of new images; only a checkpoint is needed."""

    refused: ClassVar[frozenset[str]] = frozenset()
    examples = (
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --path my_images --output predictions",
            "the class of every image file below my_images/",
        ),
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --path my_images --output predictions --on_bad_image skip",
            "the same, with the reason in place of a class where an image cannot be decoded",
        ),
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --path my_images --output predictions --stream",
            "the class of every image file that arrives in my_images/, until interrupted",
        ),
    )

    path: ExistingImages | None = option(None, f"{_PATH_HELP}; with --topic, there is none", group="Your own images")
    bootstrap_servers: str | None = option(
        None, "with --topic: HOST:PORT of the Kafka brokers, separated by commas", group="Input"
    )
    topic: Topic | None = option(
        None,
        "with --stream, in place of --path: Kafka topic of the images; a message's value is the bytes of an image's "
        "file, its key the user's",
        group="Input",
    )
    list_file: FileLocation | None = option(
        None, "text file that names the images below --path to predict, a line each; default: all",
        group="Your own images", flags=("--list",),
    )  # fmt: skip
    output: Location = option(..., "table to write: a directory of Parquet files", group="Output")
    format: TableFormat = option("parquet", DELTA_HELP, group="Output")
    probabilities: bool = option(False, "write the probability of every class as well", group="Output")
    features: bool = option(False, "write the features of every image as well", group="Output")
    stream: bool = option(
        False,
        "predict what arrives in --path or --topic, each image once, until interrupted; raises an alert when "
        "predictions drift",
        group="Live tables",
    )  # fmt: skip
    once: bool = option(False, "with --stream: predict what is there, then exit", group="Live tables")
    trigger: Interval = option("2 seconds", "with --stream: interval between looks for new images", group="Live tables")
    window_seconds: int = option(
        600, "with --stream: length of the windows whose predictions are counted and compared", group="Live tables",
        gt=0, le=86400 * 365,
    )  # fmt: skip
    reference: DirectoryLocation | None = option(
        None, "with --stream: table of predictions to compare with; default: the first windows of the stream",
        group="Live tables",
    )  # fmt: skip

    @model_validator(mode="after")
    def _images_are_in_one_place(self) -> "PredictOptions":
        if (self.path is None) == (self.topic is None):
            raise ValueError("--path names the images, or with --stream --topic does: give one of them")
        if (self.topic is None) != (self.bootstrap_servers is None):
            raise ValueError("--topic and --bootstrap_servers HOST:PORT go together")
        if self.topic is not None and not self.stream:
            raise ValueError("a --topic has no end: give --stream, and --once for what is there now")
        if self.topic is None and (self.kafka_option or self.kafka_config):
            raise ValueError("--kafka_option and --kafka_config need --topic")
        return self

    @model_validator(mode="after")
    def _a_stream_has_no_end(self) -> "PredictOptions":
        if not self.stream and (self.once or self.reference is not None):
            raise ValueError("--once and --reference belong to --stream")
        if not self.stream:
            return self
        if self.prior == "estimated" or self.list_file is not None:
            raise ValueError("--prior estimated and --list need all images, and a --stream has no end: leave them out")
        if self.format != "parquet" or not isinstance(self.output, Path):
            raise ValueError("--stream writes Parquet files to a directory of the local disk: name one with --output")
        return self

    @model_validator(mode="after")
    def _output_is_a_place_of_its_own(self) -> "PredictOptions":
        output = self.output.absolute()
        if self.path is None:
            return self
        if output == self.path or output in self.path.parents:
            raise ValueError(f"--output {self.output} holds the images of --path: name another directory")
        if self.path in output.parents:
            raise ValueError(f"--output {self.output} is within --path {self.path}: name a directory outside it")
        return self


class EvaluateImagesOptions(NewImagesOptions, PriorOptions):
    """evaluate: scores of a checkpoint on labelled images, without the data set that it was trained on."""

    refused: ClassVar[frozenset[str]] = frozenset()
    label_column: str = option("label", "column of the class names in a table", group="Your own images")
    loss_type: LossName | None = own_loss()
    many_shot: int = option(
        100, "classes with more training images than this are many-shot", group="Long tail", advanced=True, ge=0
    )
    few_shot: int = option(
        20, "classes with fewer training images than this are few-shot", group="Long tail", advanced=True, ge=0
    )
    output_dir: Location | None = option(
        None, "directory to write to; default: evaluation/ beside the checkpoint", group="Output"
    )
