"""The options of every job, each defined once.

A field is at the same time a command-line flag, a YAML key, a default and a
check (conf/arguments.py reads them). Option names are those that users of the
published code know. Values are frozen; unknown keys are refused.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, DirectoryPath, Field, FilePath, field_validator, model_validator

from conf.datasets import dataset_facts

IMAGE_TREES = ("folder", "image_list")
"""The data sets whose images are the user's own files."""


def option(default: Any, description: str, *, flags: tuple[str, ...] = (), **checks: Any) -> Any:
    """A field with its help text, further flags (``-b``) and pydantic checks (``gt=0``)."""
    return Field(default, description=description, json_schema_extra={"flags": list(flags)}, **checks)


class JobOptions(BaseModel):
    """What every job understands."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    own_defaults: ClassVar[frozenset[str]] = frozenset()
    """Options whose default is the job's own whatever the data set's is."""

    master: str | None = option(None, "Spark master URL; local[*] if none is given here or to spark-submit")
    verbose: bool = option(False, "show stack traces and Spark's own log")


class DataOptions(JobOptions):
    """Which long-tailed data set: these options alone decide what a prepared set contains."""

    dataset: str = option("digits", "name of the data set: a file of conf/datasets/")
    path: DirectoryPath | None = option(None, "directory of the images, with --dataset folder or image_list")
    list_file: FilePath | None = option(
        None, "with --dataset image_list: the training images, a line each: path below --path, label",
        flags=("--list",),
    )  # fmt: skip
    test_list_file: FilePath | None = option(
        None, "with --dataset image_list: the test images; without it --test_fraction of the training images",
        flags=("--test_list",),
    )  # fmt: skip
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
        "ti_80M_selected.pickle, or a directory of images; without --imb_factor_unlabel all of them",
    )  # fmt: skip
    relevance: float = option(
        1.0, "share of the unlabeled part that belongs to the classes; the rest is of --irrelevant_dataset", gt=0, le=1
    )
    irrelevant_dataset: str | None = option(None, "data set of the same image shape for the share 1 - relevance")
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
        if value in IMAGE_TREES:
            raise ValueError("must be a data set of its own name")
        if value is not None:
            dataset_facts(value)
        return value

    @field_validator("path", "list_file", "test_list_file")
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
        if self.dataset in IMAGE_TREES and self.path is None:
            raise ValueError(f"--dataset {self.dataset} needs --path, the directory of the images")
        if self.dataset not in IMAGE_TREES and self.path is not None:
            raise ValueError(f"--path goes with --dataset {' or '.join(IMAGE_TREES)}, not with {self.dataset}")
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
        if self.irrelevant_dataset == self.dataset:
            raise ValueError(f"--irrelevant_dataset {self.dataset} is the data set itself: choose another")
        return self

    @model_validator(mode="after")
    def _shot_groups_are_ordered(self) -> "DataOptions":
        if self.few_shot > self.many_shot + 1:
            raise ValueError(f"few_shot ({self.few_shot}) must not lie above many_shot ({self.many_shot})")
        return self

    def set_parameters(self) -> dict[str, Any]:
        """What decides the content of the prepared set, in a fixed order; without what has no effect."""
        names = ["dataset", *self._profile_parameters(), "val_fraction", "rand_number"]
        if self.dataset in IMAGE_TREES:
            names += ["path", "list_file", "test_list_file", "test_fraction", "image_size", "on_bad_image"]
        if self.unlabeled is not None:
            names.append("unlabeled")
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
        name = self.dataset
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


class StatsOptions(DataOptions):
    """stats: class-distribution statistics of a prepared set."""


# What a run's outcome does not depend on; of the files that it starts from, the content enters its name, not the place.
_NOT_OF_THE_OUTCOME = {
    "master", "verbose", "data_dir", "runs_dir", "evaluate", "resume", "pretrained_model", "pseudo_labels",
    "retries", "rank_timeout", "logit_adjustment", "features", "tsne",
}  # fmt: skip


class RunOptions(DataOptions):
    """What every training has: where it writes, how long and how it learns."""

    phase: ClassVar[str]
    """What is trained, as the metric events and the run's name call it."""

    arch: Literal[
        "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "wrn28_2",
        "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d",
    ] = option("resnet32", "network; resnet10 and all after it are for large images", flags=("-a",))  # fmt: skip
    epochs: int = option(200, "epochs to train", gt=0)
    batch_size: int = option(128, "images a step, over all ranks together", flags=("-b", "--batch-size"), gt=0)
    learning_rate: float = option(0.1, "initial learning rate", flags=("--lr", "--learning-rate"), gt=0)
    momentum: float = option(0.9, "momentum of SGD", ge=0, lt=1)
    weight_decay: float = option(2e-4, "weight decay", flags=("--wd", "--weight-decay"), ge=0)
    lr_schedule: Literal["steps", "cosine"] = option(
        "steps", "learning rate over the epochs: warm-up, x 0.01 after 80 % and x 0.0001 after 90 %; or half a cosine"
    )
    seed: int = option(0, "seed of initial weights, order, augmentation and sampling", ge=0, lt=2**63)
    world_size: int = option(1, "ranks: tasks of the barrier stage, one process each", gt=0)
    threads: int | None = option(None, "CPU threads of a rank; by default its share of the cores", gt=0)
    retries: int = option(2, "how often a failed training goes on from its last checkpoint by itself", ge=0)
    rank_timeout: float = option(600.0, "seconds without a sign of life after which a rank counts as hanging", gt=0)
    exp_str: str = option("0", "tells apart runs of one configuration", pattern=r"^[A-Za-z0-9_.]+$")
    runs_dir: Path = option(Path("runs"), "directory of checkpoints, logs and metric events")

    def run_name(self, inputs: dict[str, str]) -> str:
        """The run's directory: readable, and different for whatever can change the outcome.

        inputs: by option name, a hash of the content of each file that the run starts from; where it lies is no matter.
        """
        parameters = {**self.model_dump(mode="json", exclude=_NOT_OF_THE_OUTCOME), "inputs": inputs}
        stem = "-".join((self.dataset, self.arch, *self._method(), f"imb{self.imb_factor:g}", f"e{self.epochs}"))
        return f"{stem}-w{self.world_size}-seed{self.seed}-{self.exp_str}-{fingerprint(parameters)}"

    def _method(self) -> tuple[str, ...]:
        """What is trained and how, as parts of the run's name."""
        return (self.phase,)


class PretrainRotOptions(RunOptions):
    """pretrain_rot: self-supervised pre-training by rotation prediction; labels are not used."""

    phase: ClassVar[str] = "pretrain_rot"

    resume: FilePath | None = option(None, "checkpoint to go on from")


class ContrastiveOptions(RunOptions):
    """What every contrastive pre-training has; labels are not used."""

    own_defaults: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    batch_size: int = option(128, "images a step, over all ranks together", flags=("-b", "--batch-size"), ge=4)
    lr_schedule: Literal["steps", "cosine"] = option(
        "cosine", "learning rate over the epochs: the recipe's steps, or half a cosine"
    )
    weight_decay: float = option(1e-4, "weight decay", flags=("--wd", "--weight-decay"), ge=0)
    projection_dim: int = option(128, "width of the space in which views are compared", gt=0)
    resume: FilePath | None = option(None, "checkpoint to go on from")


class PretrainMocoOptions(ContrastiveOptions):
    """pretrain_moco: self-supervised pre-training by momentum contrast (MoCo v2)."""

    phase: ClassVar[str] = "pretrain_moco"

    learning_rate: float = option(0.015, "initial learning rate", flags=("--lr", "--learning-rate"), gt=0)
    temperature: float = option(0.2, "what similarities are divided by", gt=0)
    queue_size: int = option(
        65536, "keys to compare with; of a small data set, no more than a quarter of its images", gt=0
    )
    key_momentum: float = option(0.999, "share that the key network keeps of itself in a step", ge=0, lt=1)


class PretrainSimclrOptions(ContrastiveOptions):
    """pretrain_simclr: self-supervised pre-training by contrast within the batch (SimCLR)."""

    phase: ClassVar[str] = "pretrain_simclr"

    temperature: float = option(0.5, "what similarities are divided by", gt=0)


TrainRule = Literal[
    "None", "Resample", "Reweight", "DRW", "ClassBalanced", "SquareRoot", "ProgressivelyBalanced", "DRS"
]


class SupervisedOptions(RunOptions):
    """What every training with labels has."""

    loss_type: Literal["CE", "Focal", "LDAM", "BalancedSoftmax", "LogitAdjusted"] = option("CE", "loss")
    focal_gamma: float = option(1.0, "exponent of the focal loss", ge=0)
    ldam_max_margin: float = option(0.5, "LDAM's margin of the smallest class, in units of the cosine", gt=0)
    tau: float = option(1.0, "strength of LogitAdjusted: tau * log prior is added to the logits in training", ge=0)
    train_rule: TrainRule = option("None", "how class sizes enter the training")

    def _method(self) -> tuple[str, ...]:
        return (self.phase, self.loss_type, self.train_rule)


class TrainOptions(SupervisedOptions):
    """train: supervised training on the labelled part."""

    phase: ClassVar[str] = "train"

    resume: FilePath | None = option(None, "checkpoint to go on from")
    pretrained_model: FilePath | None = option(None, "checkpoint whose backbone to start from (self-supervision)")
    evaluate: bool = option(False, "only evaluate the checkpoint given by --resume", flags=("-e",))
    logit_adjustment: float | None = option(
        None, "with -e: lower the logits by this times the log prior of the checkpoint's training (post-hoc)", ge=0
    )
    features: Path | None = option(None, "with -e: Parquet file to write, with the features of the held-out images")
    tsne: Path | None = option(None, "with -e: PNG, PDF or SVG file to plot, a t-SNE map of the test images")

    _of_evaluation_only: ClassVar[tuple[str, ...]] = ("logit_adjustment", "features", "tsne")

    @field_validator("features", "tsne")
    @classmethod
    def _output_means_the_same_to_every_process(cls, value: Path | None) -> Path | None:
        return value.absolute() if value else None

    @field_validator("tsne")
    @classmethod
    def _plot_has_a_known_format(cls, value: Path | None) -> Path | None:
        if value and value.suffix not in (".png", ".pdf", ".svg"):
            raise ValueError("the name of a plot ends in .png, .pdf or .svg")
        return value

    @model_validator(mode="after")
    def _evaluation_has_a_checkpoint(self) -> "TrainOptions":
        if self.evaluate and self.resume is None:
            raise ValueError("-e evaluates a checkpoint: name it with --resume")
        return self

    @model_validator(mode="after")
    def _options_of_evaluation_come_with_it(self) -> "TrainOptions":
        for name in self._of_evaluation_only:
            if not self.evaluate and getattr(self, name) is not None:
                raise ValueError(f"--{name} is for the evaluation of a checkpoint: give -e --resume CKPT")
        return self


class TrainClassifierOptions(SupervisedOptions):
    """train_classifier: another classifier on the frozen backbone of a checkpoint."""

    phase: ClassVar[str] = "classifier"
    own_defaults: ClassVar[frozenset[str]] = frozenset({"epochs"})

    resume: FilePath = option(..., "checkpoint whose backbone (with tau and LWS also classifier) to take")
    method: Literal["cRT", "tau", "LWS", "NCM"] = option("cRT", "how the classifier is made (Kang et al. 2020)")
    epochs: int = option(10, "epochs to train (cRT, LWS); tau and NCM learn nothing and take one pass", gt=0)
    batch_size: int = option(512, "images a step, over all ranks together", flags=("-b", "--batch-size"), gt=0)
    train_rule: TrainRule = option("ClassBalanced", "how class sizes enter the training")
    tau_norm: float | None = option(None, "tau's exponent; by default the best on validation data, 0 to 2", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_pass_suffices_if_nothing_is_learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "epochs": 1} if values.get("method") in ("tau", "NCM") else values

    @model_validator(mode="after")
    def _loss_fits_the_method(self) -> "TrainClassifierOptions":
        if self.method == "LWS" and self.loss_type == "LDAM":
            raise ValueError("LWS scales the outputs of a linear classifier, LDAM needs cosines: take another loss")
        return self

    def _method(self) -> tuple[str, ...]:
        return (self.phase, self.method, self.loss_type, self.train_rule)


class GenPseudolabelsOptions(DataOptions):
    """gen_pseudolabels: label the unlabeled part with a trained classifier, a partition at a time."""

    resume: FilePath = option(..., "checkpoint of the base classifier")
    batch_size: int = option(512, "images a forward pass", flags=("-b", "--batch-size"), gt=0)
    output_dir: Path | None = option(None, "where to write; by default pseudo_labels/ beside the prepared sets")
    output_filename: str = option(
        "pseudo_labels.parquet", "name in --output_dir; with .pickle the published layout is written as well",
        pattern=r"^[A-Za-z0-9_.-]*[A-Za-z0-9_-]$",
    )  # fmt: skip


class TrainSemiOptions(TrainOptions):
    """train_semi: training on the labelled and the pseudo-labelled part together."""

    phase: ClassVar[str] = "train_semi"

    batch_size: int = option(256, "images a step, over all ranks together", flags=("-b", "--batch-size"), gt=0)
    pseudo_labels: Path | None = option(
        None,
        "table written by gen_pseudolabels, or a file laid out as pseudo_labeled_cifar.pickle; by default its table",
    )
    unlabeled_weight: float = option(1.0, "omega: weight of a pseudo-labelled sample", gt=0)
    confidence_threshold: float = option(0.0, "drop pseudo-labels of lower confidence", ge=0, le=1)

    @field_validator("pseudo_labels")
    @classmethod
    def _pseudo_labels_are_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such table or file")
        return value

    @model_validator(mode="after")
    def _a_threshold_has_confidences(self) -> "TrainSemiOptions":
        if self.confidence_threshold > 0 and self.pseudo_labels is not None and self.pseudo_labels.is_file():
            raise ValueError(
                f"{self.pseudo_labels} has no confidences: leave out --confidence_threshold, or name a table"
            )
        return self

    @model_validator(mode="after")
    def _there_is_an_unlabeled_part(self) -> "TrainSemiOptions":
        if self.imb_factor_unlabel is None and self.unlabeled is None:
            raise ValueError("--imb_factor_unlabel is required: 1/rho_U of the unlabeled part (or --unlabeled)")
        return self


EVENTS_TOPIC = "longtail-events"
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_TRIGGER = r"^\d+ (milli)?seconds?$"


class MonitorOptions(JobOptions):
    """monitor: per-class accuracy of running trainings, by Structured Streaming over their metric events."""

    runs_dir: Path = option(Path("runs"), "directory of the runs to watch")
    output_dir: Path | None = option(None, "where the tables are kept; by default analytics/ in --runs_dir")
    run: str | None = option(None, "show only runs whose name contains this")
    alerts: FilePath | None = option(None, "YAML file of alert rules instead of conf/alerts.yaml")
    once: bool = option(False, "process what is there, show it, and end")
    trigger: str = option("1 second", "how often to look for new events", pattern=_TRIGGER)
    tensorboard: Path | None = option(None, "directory for TensorBoard scalars of all runs; by default none")
    source: Literal["files", "kafka"] = option("files", "where events come from: files in --runs_dir, or a Kafka topic")
    bootstrap_servers: str | None = option(None, "with --source kafka: HOST:PORT of its brokers, separated by commas")
    topic: str = option(EVENTS_TOPIC, "with --source kafka: the topic of the events", pattern=_TOPIC)

    @model_validator(mode="after")
    def _kafka_has_brokers(self) -> "MonitorOptions":
        if (self.source == "kafka") != (self.bootstrap_servers is not None):
            raise ValueError("--source kafka and --bootstrap_servers HOST:PORT go together")
        return self


class RelayOptions(JobOptions):
    """relay: send the metric events of running trainings to a Kafka topic."""

    runs_dir: Path = option(Path("runs"), "directory of the runs whose events to send")
    bootstrap_servers: str = option(..., "HOST:PORT of Kafka's brokers, separated by commas")
    topic: str = option(EVENTS_TOPIC, "topic to send to", pattern=_TOPIC)
    once: bool = option(False, "send what is there, and end")
    trigger: str = option("1 second", "how often to look for new events", pattern=_TRIGGER)


class DashboardOptions(JobOptions):
    """dashboard: the live page over all runs."""

    runs_dir: Path = option(Path("runs"), "directory of the runs to watch; made if it is not there")
    output_dir: Path | None = option(None, "where the tables are kept; by default dashboard/ in --runs_dir")
    tables_dir: DirectoryPath | None = option(
        None, "show the tables that a monitor keeps here, without a query of the page's own"
    )
    alerts: FilePath | None = option(None, "YAML file of alert rules instead of conf/alerts.yaml")
    trigger: str = option("1 second", "how often to look for new events", pattern=_TRIGGER)
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: whoever reaches this machine may read the page")
    port: int = option(8050, "port to listen on; 0: any that is free", ge=0, le=65535)

    @model_validator(mode="after")
    def _tables_are_its_own_or_another_s(self) -> "DashboardOptions":
        if self.tables_dir is not None and (self.output_dir or self.alerts):
            raise ValueError("--tables_dir shows what a monitor keeps: give --output_dir and --alerts to that")
        return self


class PackageOptions(JobOptions):
    """package: zip of longtail's own code, for --py-files."""

    output: Path = option(Path("longtail.zip"), "file to write")


class PipelineOptions(SupervisedOptions):
    """pipeline: prepare, stats, train, gen_pseudolabels, train_semi, compare; with a live per-class table."""

    imb_factor_unlabel: float | None = option(
        1.0, "1/rho_U of the unlabeled part; above 1 the labelled head is its tail", gt=0
    )
    semi_epochs: int | None = option(None, "epochs of train_semi; by default those of --epochs", gt=0)
    semi_batch_size: int | None = option(None, "images a step of train_semi; by default twice --batch_size", gt=0)
    unlabeled_weight: float = option(1.0, "omega: weight of a pseudo-labelled sample", gt=0)
    confidence_threshold: float = option(0.0, "drop pseudo-labels of lower confidence", ge=0, le=1)
    ssp: bool = option(False, "pre-train by rotation prediction first")


class TheoryOptions(JobOptions):
    """theory: the three theorems, checked by Monte-Carlo simulation over a grid of parameters."""

    grid: FilePath = option(
        Path(__file__).parent / "experiments" / "theory.yaml", "YAML file of the points to check (conf/theory_grid.py)"
    )
    repetitions: int | None = option(
        None, "repetitions of every point; by default what its sweep in the grid says", ge=2
    )
    block_repetitions: int = option(100_000, "repetitions of a block: a row of Spark's table, a seed of its own", gt=0)
    confidence: float = option(0.99, "confidence of the intervals", gt=0, lt=1)
    seed: int = option(0, "seed of all draws, with the point's parameters and the block", ge=0, lt=2**63)
    output_dir: Path = option(Path("theory"), "directory of the results")


def fingerprint(parameters: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with any parameter."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
