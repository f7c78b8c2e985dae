"""Options of the self-supervised pre-trainings, and which there are.

To add one, write its options here, list them in PRETRAININGS, and write the TrainingMethod that they name.
"""

from typing import ClassVar

from longtail.conf.base.locations import Location
from longtail.conf.options.base import option
from longtail.conf.options.location_types import FileLocation
from longtail.conf.options.training import BATCH_HELP, SCHEDULE_HELP, LearningRateSchedule, RunOptions


class PretrainingOptions(RunOptions):
    """Options of every pre-training."""

    resume: FileLocation | None = option(None, "checkpoint to continue from", group="Checkpoints", in_run_name=False)

    @classmethod
    def summary(cls) -> str:
        """The job in one line: its docstring without the name."""
        return (cls.__doc__ or "").partition(": ")[2].partition(";")[0].rstrip(".")

    @property
    def continues_from(self) -> Location | None:
        """The checkpoint to continue from."""
        return self.resume


class PretrainRotOptions(PretrainingOptions):
    """pretrain_rot: self-supervised pre-training by rotation prediction; labels are not used."""

    phase: ClassVar[str] = "pretrain_rot"
    examples = (
        ("", "on the digits of scikit-learn; the checkpoint is for `longtail train --pretrained_model`"),
        ("--dataset cifar10 --imb_factor 0.01 --world_size 2", "on long-tailed CIFAR-10, two ranks"),
    )

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return "longtail.training.rotation:RotationMethod"


class ContrastiveOptions(PretrainingOptions):
    """Options of every contrastive pre-training; labels are not used."""

    own_defaults: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    batch_size: int = option(128, BATCH_HELP, group="Optimisation", flags=("-b",), ge=4)
    lr_schedule: LearningRateSchedule = option("cosine", SCHEDULE_HELP, group="Optimisation")
    weight_decay: float = option(1e-4, "weight decay", group="Optimisation", flags=("--wd",), ge=0)
    projection_dim: int = option(
        128, "width of the projection in which views are compared", group="Method", gt=0, le=65_536
    )


class PretrainMocoOptions(ContrastiveOptions):
    """pretrain_moco: self-supervised pre-training by momentum contrast (MoCo v2)."""

    phase: ClassVar[str] = "pretrain_moco"
    examples = (
        ("--queue_size 256", "on the digits of scikit-learn"),
        ("--dataset cifar10 --imb_factor 0.01 --world_size 2", "on long-tailed CIFAR-10, two ranks"),
    )

    learning_rate: float = option(0.015, "initial learning rate", group="Optimisation", flags=("--lr",), gt=0)
    temperature: float = option(0.2, "temperature of the similarities", group="Method", gt=0)
    queue_size: int = option(
        65536, "negative keys in the queue; for a small data set at most a quarter of its images", group="Method", gt=0
    )
    key_momentum: float = option(0.999, "momentum of the key network's weights", group="Method", ge=0, lt=1)

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return "longtail.training.contrastive:MocoMethod"


class PretrainSimclrOptions(ContrastiveOptions):
    """pretrain_simclr: self-supervised pre-training by contrast within the batch (SimCLR)."""

    phase: ClassVar[str] = "pretrain_simclr"
    examples = (
        ("", "on the digits of scikit-learn"),
        ("--dataset cifar10 --imb_factor 0.01 -b 512", "on long-tailed CIFAR-10"),
    )

    temperature: float = option(0.5, "temperature of the similarities", group="Method", gt=0)

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return "longtail.training.contrastive:SimclrMethod"


PRETRAININGS: dict[str, type[PretrainingOptions]] = {
    options.phase: options for options in (PretrainRotOptions, PretrainMocoOptions, PretrainSimclrOptions)
}
"""Options by job, which is also the phase."""
