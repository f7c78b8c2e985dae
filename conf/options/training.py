"""Options of every training, and of the trainings on labelled images."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import PrivateAttr, field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import short_name
from longtail.conf.networks import FOR_LARGE_IMAGES, FOR_SMALL_IMAGES, NETWORKS, TIMM_NAME
from longtail.conf.options.base import MOST_THREADS, JobOptions, fingerprint, is_in_run_name, of_form, one_of, option
from longtail.conf.options.data import DataOptions
from longtail.conf.options.location_types import FileLocation
from longtail.conf.options.tracking import mlflow_server
from longtail.conf.vocabulary import TEST, TRAIN, VAL

BATCH_HELP = "images per step, over all ranks together"

NetworkName = Annotated[str, one_of(NETWORKS, or_code="factory", or_name=TIMM_NAME)]
LOSSES = ("CE", "Focal", "FocalNormalised", "LDAM", "BalancedSoftmax", "LogitAdjusted")
"""Built-in losses; training/losses.py computes them."""
LossName = Annotated[str, one_of(LOSSES, or_code="function")]

LearningRateSchedule = Literal["steps", "cosine", "cosine_7_16", "constant"]
SCHEDULE_HELP = (
    "learning rate over the epochs; steps: warm-up, x 0.01 after 80% and x 0.0001 after 90%; cosine: to zero; "
    "cosine_7_16: FixMatch's, initial rate x cos(7 pi t / 16), t from 0 to 1"
)

Backend = Literal["by_device", "gloo"]
"""How ranks communicate."""


class RunOptions(DataOptions):
    """Options of every training: network, optimisation, and where it runs and writes."""

    phase: ClassVar[str]
    """What is trained, in metric events and in the run's name."""

    arch: NetworkName = option(
        "resnet32",
        f"network; small images: {', '.join(FOR_SMALL_IMAGES)}; large: {', '.join(FOR_LARGE_IMAGES)}; timm:NAME; "
        "package.module:factory",
        group="Network", flags=("-a",), choices=NETWORKS,
    )  # fmt: skip
    bn_momentum: float = option(
        0.1, "weight of a batch in the running statistics of batch norm; use 0.001 only for 10,000 steps or more",
        group="Network", advanced=True, gt=0, le=1,
    )  # fmt: skip
    precision: Literal["float32", "bfloat16", "auto"] = option(
        "float32",
        "type in which the network computes while it trains; weights, losses and metrics stay float32; bfloat16 is for "
        "GPUs and for CPUs with AVX-512, others take ten times as long; auto: the faster one, by a short probe",
        group="Network", advanced=True,
    )  # fmt: skip
    compile: Literal["off", "default", "cuda_graphs", "compiled_cuda_graphs"] = option(
        "off",
        "how the network is compiled while it trains: by torch.compile in its mode default, by replaying each whole "
        "step as one CUDA graph, or both",
        group="Network", advanced=True,
    )  # fmt: skip
    epochs: int = option(200, "epochs to train", group="Optimisation", gt=0)
    batch_size: int = option(128, BATCH_HELP, group="Optimisation", flags=("-b",), gt=0)
    learning_rate: float = option(0.1, "initial learning rate", group="Optimisation", flags=("--lr",), gt=0)
    lr_schedule: LearningRateSchedule = option(
        "steps",
        SCHEDULE_HELP,
        group="Optimisation",
    )  # fmt: skip
    weight_decay: float = option(2e-4, "weight decay", group="Optimisation", flags=("--wd",), ge=0)
    momentum: float = option(0.9, "momentum of SGD", group="Optimisation", advanced=True, ge=0, lt=1)
    nesterov: bool = option(False, "use Nesterov momentum", group="Optimisation", advanced=True)
    horizontal_flip: Literal["by_dataset", "always", "never"] = option(
        "by_dataset",
        "mirror half of the training images; by_dataset: where a mirrored image keeps its class (digits do not; the "
        "published recipe mirrors SVHN's all the same)", group="Optimisation", advanced=True,
    )  # fmt: skip
    seed: int = option(
        0, "seed of the initial weights, the order of images, augmentation and sampling", group="Optimisation",
        ge=0, lt=2**63,
    )  # fmt: skip
    eval_every: int = option(
        1, "epochs between evaluations on the held-out splits; the last epoch always has one", group="Optimisation",
        advanced=True, gt=0,
    )  # fmt: skip
    world_size: int = option(1, "ranks, one task of the barrier stage each", group="Spark", gt=0, le=1024)
    threads: int | None = option(
        None, "CPU threads per rank; default: an equal share of the cores", group="Spark", advanced=True, gt=0,
        le=MOST_THREADS,
    )  # fmt: skip
    backend: Backend = option(
        "by_device",
        "how ranks communicate; by_device: NCCL between GPUs, gloo between CPUs; gloo also lets ranks share a GPU",
        group="Spark", in_run_name=False, advanced=True,
    )  # fmt: skip
    max_resident_gib: float = option(
        4.0, "GiB of decoded images that a rank keeps in memory; larger sets are read from the files in every epoch",
        group="Spark", advanced=True, ge=0,
    )  # fmt: skip
    shuffle_buffer: int = option(
        10_000, "images in a rank's shuffle buffer, if they are read from the files", group="Spark", advanced=True, gt=0
    )
    data_through: Literal["path", "partitions"] = option(
        "path", "how images reach the ranks: read from --data_dir by each, or read by the driver and sent by Spark",
        group="Spark", in_run_name=False, advanced=True,
    )  # fmt: skip
    retries: int = option(
        2, "restarts of a failed training from its last checkpoint", group="Spark", in_run_name=False, advanced=True,
        ge=0,
    )  # fmt: skip
    rank_timeout: float = option(
        600.0, "seconds without a heartbeat after which a rank counts as hung", group="Spark", in_run_name=False,
        advanced=True, gt=0,
    )  # fmt: skip
    # The published code's name, as is --rand_number for the seed of the data selection.
    exp_str: Annotated[str, of_form(r"[A-Za-z0-9_.]+", "a text of letters, digits, _ and .")] = option(
        "0", "distinguishes runs of one configuration", group="Output", max_length=60
    )
    runs_dir: Location = option(
        Path("runs"), "directory of checkpoints, logs and metric events", group="Output", in_run_name=False
    )
    mlflow: str | None = mlflow_server("log the run, its scores and its model in MLflow")

    _recorded: dict[str, Any] | None = PrivateAttr(None)

    def with_files_at(self, locations: dict[str, Path]) -> Self:
        """The same options with files elsewhere, by option name; recorded() gives those that the user named."""
        moved = self.model_copy(update=locations)
        moved._recorded = self.recorded()
        return moved

    def recorded(self) -> dict[str, Any]:
        """As of every job."""
        return super().recorded() if self._recorded is None else self._recorded

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "RunOptions":
        if self.nesterov and not self.momentum:
            raise ValueError("--nesterov needs a --momentum above 0")
        return self

    def method_code(self) -> str:
        """`module:class` of the TrainingMethod (training/method.py) that these are the options of."""
        raise NotImplementedError

    @property
    def continues_from(self) -> Location | None:
        """The checkpoint that a new run continues from."""
        return None

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """The splits from whose features, of the backbone of frozen_backbone, the training learns or chooses."""
        return ()

    @property
    def frozen_backbone(self) -> Location | None:
        """The file of a backbone that does not learn."""
        return None

    def run_name(self, inputs: dict[str, str]) -> str:
        """Name of the run's directory: readable, and different for whatever can change the outcome.

        inputs: by option name, a hash of the content of each file that the run starts from; its path does not matter
        """
        # The content of the files that a run starts from is part of the name, their path is not.
        named = {name for name, field in type(self).model_fields.items() if is_in_run_name(field)}
        values = self.recorded()
        parameters = {**{name: values[name] for name in values if name in named}, "inputs": inputs}
        parts = (self.dataset, short_name(self.arch), *self._method(), self._profile(), f"e{self.epochs}")
        return f"{'-'.join(parts)}-w{self.world_size}-seed{self.seed}-{self.exp_str}-{fingerprint(parameters)}"

    def _profile(self) -> str:
        """The class sizes, as a part of the run's name: --imb_factor where it decides them."""
        if self.counts is not None:
            return "counts"
        return "natural" if self.imb_type == "natural" else f"imb{self.imb_factor:g}"

    def _method(self) -> tuple[str, ...]:
        """Phase and method, as parts of the run's name."""
        return (self.phase,)


TrainRule = Literal[
    "None", "Resample", "Reweight", "DRW", "ClassBalanced", "SquareRoot", "ProgressivelyBalanced", "DRS",
]  # fmt: skip
"""Rules for class weights and resampling; training/rebalancing.py computes them."""


class LossOptions(JobOptions):
    """The loss and its parameters."""

    loss_type: LossName = option(
        "CE", "loss, or package.module:function", group="Loss and re-balancing", choices=LOSSES
    )
    focal_gamma: float = option(
        1.0, "Focal, FocalNormalised: exponent", group="Loss and re-balancing", advanced=True, ge=0
    )
    ldam_max_margin: float = option(
        0.5, "LDAM: margin of the smallest class, in units of the cosine", group="Loss and re-balancing", advanced=True,
        gt=0,
    )  # fmt: skip
    ldam_scale: float = option(
        30.0, "LDAM: factor by which the cosines are scaled", group="Loss and re-balancing", advanced=True, gt=0
    )
    tau: float = option(
        1.0, "LogitAdjusted: factor of the log prior that is added to the logits in training (--logit_adjustment "
        "subtracts it after a training)",
        group="Loss and re-balancing", advanced=True, ge=0,
    )  # fmt: skip


class SupervisedOptions(LossOptions, RunOptions):
    """Options of every training with labels."""

    train_rule: TrainRule = option("None", "re-balancing by class sizes", group="Loss and re-balancing")

    def _method(self) -> tuple[str, ...]:
        return (self.phase, short_name(self.loss_type), self.train_rule)


class TrainOptions(SupervisedOptions):
    """train: supervised training on the labelled part."""

    phase: ClassVar[str] = "train"
    examples = (
        ("", "a small network on the digits of scikit-learn, in about a minute on a CPU"),
        ("--loss_type LDAM --train_rule DRW", "the same by LDAM-DRW"),
        ("--dataset cifar10 --imb_factor 0.01 --world_size 2", "the published recipe on CIFAR-10, two ranks"),
    )

    resume: FileLocation | None = option(None, "checkpoint to continue from", group="Checkpoints", in_run_name=False)
    pretrained_model: FileLocation | None = option(
        None, "checkpoint, or weights for timm, to start from", group="Checkpoints", in_run_name=False
    )  # fmt: skip
    tune: Annotated[str, of_form(r"all|head|last_[1-9][0-9]{0,3}", "all, head or last_N")] = option(
        "all", "what is trained: all, the last N blocks and the head (last_N), or the head alone, on features that are "
        "computed once without augmentation and kept beside the set (head)", group="Network", advanced=True,
    )  # fmt: skip
    evaluate: bool = option(
        False, "only evaluate the checkpoint given by --resume", group="Checkpoints", in_run_name=False, flags=("-e",)
    )
    dry_run: bool = option(False, "only show how long the training may take", group="Output", in_run_name=False)
    logit_adjustment: float | None = option(
        None, "with -e: subtract this times the log class prior of the checkpoint's training from the logits (--tau of "
        "LogitAdjusted adds it in training)",
        group="Checkpoints", in_run_name=False, advanced=True, ge=0,
    )  # fmt: skip
    features: Path | None = option(
        None,
        "with -e: write the features of the held-out images to this Parquet file",
        group="Checkpoints",
        in_run_name=False,
        advanced=True,
    )
    tsne: Path | None = option(
        None, "with -e: plot a t-SNE map of the test images to this PNG, PDF or SVG file", group="Checkpoints",
        in_run_name=False, advanced=True,
    )  # fmt: skip

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return "longtail.training.supervised:SupervisedMethod"

    @property
    def continues_from(self) -> Location | None:
        """The checkpoint to continue from."""
        return self.resume

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """All labelled ones with --tune head."""
        return (TRAIN, VAL, TEST) if self.tune == "head" else ()

    @property
    def frozen_backbone(self) -> Location | None:
        """As of every training; --resume has its own."""
        return self.continues_from or self.pretrained_model

    _of_evaluation_only: ClassVar[tuple[str, ...]] = ("logit_adjustment", "features", "tsne")

    @field_validator("features", "tsne")
    @classmethod
    def _outputs_are_absolute(cls, value: Path | None) -> Path | None:
        return value.absolute() if value else None

    @field_validator("tsne")
    @classmethod
    def _plot_has_a_known_format(cls, value: Path | None) -> Path | None:
        if value and value.suffix not in (".png", ".pdf", ".svg"):
            raise ValueError("the name of a plot ends in .png, .pdf or .svg")
        return value

    @property
    def num_tuned_blocks(self) -> int | None:
        """N of --tune last_N; None for others."""
        kind, _, number = self.tune.partition("_")
        return int(number) if kind == "last" else None

    @model_validator(mode="after")
    def _what_is_not_trained_was_trained_before(self) -> "TrainOptions":
        if self.tune != "all" and not (self.pretrained_model or self.resume):
            raise ValueError(
                f"--tune {self.tune} trains a part of a network whose other part was trained before: name its "
                "checkpoint with --pretrained_model"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_has_a_checkpoint(self) -> "TrainOptions":
        if self.evaluate and self.resume is None:
            raise ValueError("-e evaluates a checkpoint: name it with --resume")
        if self.evaluate and self.dry_run:
            raise ValueError("--dry_run is about a training, and -e is none: leave out one of them")
        return self

    @model_validator(mode="after")
    def _options_of_evaluation_come_with_it(self) -> "TrainOptions":
        for name in self._of_evaluation_only:
            if not self.evaluate and getattr(self, name) is not None:
                raise ValueError(f"--{name} is for the evaluation of a checkpoint: give -e --resume CKPT")
        return self
