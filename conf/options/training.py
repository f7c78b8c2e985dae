"""What every training understands, and the trainings on labelled images."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import FilePath, field_validator, model_validator

from longtail.conf.options.base import fingerprint, option
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import Phase

# What a run's outcome does not depend on; of the files that it starts from, the content enters its name, not the place.
_NOT_OF_THE_OUTCOME = {
    "master", "verbose", "data_dir", "runs_dir", "evaluate", "resume", "pretrained_model", "pseudo_labels",
    "retries", "rank_timeout", "data_through", "logit_adjustment", "features", "tsne", "rounds",
}  # fmt: skip


class RunOptions(DataOptions):
    """What every training has: where it writes, how long and how it learns."""

    phase: ClassVar[Phase]
    """What is trained, as the metric events and the run's name call it."""

    arch: Literal[
        "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "wrn28_2",
        "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d",
    ] = option("resnet32", "network; resnet10 and all after it are for large images", flags=("-a",))  # fmt: skip
    epochs: int = option(200, "epochs to train", gt=0)
    batch_size: int = option(128, "images a step, over all ranks together", flags=("-b", "--batch-size"), gt=0)
    learning_rate: float = option(0.1, "initial learning rate", flags=("--lr", "--learning-rate"), gt=0)
    momentum: float = option(0.9, "momentum of SGD", ge=0, lt=1)
    nesterov: bool = option(False, "Nesterov's momentum in the place of the plain one")
    weight_decay: float = option(2e-4, "weight decay", flags=("--wd", "--weight-decay"), ge=0)
    lr_schedule: Literal["steps", "cosine", "cosine_7_16", "constant"] = option(
        "steps", "learning rate over the epochs: warm-up, x 0.01 after 80 % and x 0.0001 after 90 %; or half a cosine; "
        "or 7/16 of one, as FixMatch has it; or always the same",
    )  # fmt: skip
    bn_momentum: float = option(
        0.1, "share of a batch in batch norm's running statistics; 0.001 where 10^4 steps and more are taken",
        gt=0, le=1,
    )  # fmt: skip
    eval_every: int = option(1, "epochs from one evaluation of the held-out splits to the next; the last is one", gt=0)
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "what the network computes in while it learns; weights, losses and measurements are float32. "
        "bfloat16 is for GPUs and CPUs with AVX-512: others take ten times as long",
    )  # fmt: skip
    compile: Literal["off", "default", "cuda_graphs"] = option(
        "off", "torch.compile of the network while it learns; cuda_graphs: replayed as graphs, on a GPU"
    )
    seed: int = option(0, "seed of initial weights, order, augmentation and sampling", ge=0, lt=2**63)
    world_size: int = option(1, "ranks: tasks of the barrier stage, one process each", gt=0)
    threads: int | None = option(None, "CPU threads of a rank; by default its share of the cores", gt=0)
    max_resident_gib: float = option(
        4.0, "GiB of decoded images that a rank keeps in memory; what is larger is read from the files in every epoch",
        ge=0,
    )  # fmt: skip
    shuffle_buffer: int = option(10_000, "images that a rank mixes when they are read from the files", gt=0)
    retries: int = option(2, "how often a failed training goes on from its last checkpoint by itself", ge=0)
    rank_timeout: float = option(600.0, "seconds without a sign of life after which a rank counts as hanging", gt=0)
    data_through: Literal["path", "partitions"] = option(
        "path",
        "how images reach the ranks: they read --data_dir themselves, or Spark brings them what the driver reads",
    )
    exp_str: str = option("0", "tells apart runs of one configuration", pattern=r"^[A-Za-z0-9_.]+$")
    runs_dir: Path = option(Path("runs"), "directory of checkpoints, logs and metric events")

    @model_validator(mode="after")
    def _nesterov_has_a_momentum(self) -> "RunOptions":
        if self.nesterov and not self.momentum:
            raise ValueError("--nesterov needs a --momentum above 0")
        return self

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


TrainRule = Literal[
    "None", "Resample", "Reweight", "DRW", "ClassBalanced", "SquareRoot", "ProgressivelyBalanced", "DRS"
]


class SupervisedOptions(RunOptions):
    """What every training with labels has."""

    loss_type: Literal["CE", "Focal", "LDAM", "BalancedSoftmax", "LogitAdjusted"] = option("CE", "loss")
    focal_gamma: float = option(1.0, "exponent of the focal loss", ge=0)
    ldam_max_margin: float = option(0.5, "LDAM's margin of the smallest class, in units of the cosine", gt=0)
    ldam_scale: float = option(30.0, "what the cosines of LDAM's head are multiplied with", gt=0)
    tau: float = option(1.0, "strength of LogitAdjusted: tau * log prior is added to the logits in training", ge=0)
    train_rule: TrainRule = option("None", "how class sizes enter the training")

    def _method(self) -> tuple[str, ...]:
        return (self.phase, self.loss_type, self.train_rule)


class TrainOptions(SupervisedOptions):
    """train: supervised training on the labelled part."""

    phase: ClassVar[Phase] = "train"

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

    phase: ClassVar[Phase] = "classifier"
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
