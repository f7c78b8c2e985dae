"""The self-supervised pre-trainings."""

from typing import ClassVar, Literal

from pydantic import FilePath

from longtail.conf.options.base import option
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import Phase


class PretrainRotOptions(RunOptions):
    """pretrain_rot: self-supervised pre-training by rotation prediction; labels are not used."""

    phase: ClassVar[Phase] = "pretrain_rot"

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

    phase: ClassVar[Phase] = "pretrain_moco"

    learning_rate: float = option(0.015, "initial learning rate", flags=("--lr", "--learning-rate"), gt=0)
    temperature: float = option(0.2, "what similarities are divided by", gt=0)
    queue_size: int = option(
        65536, "keys to compare with; of a small data set, no more than a quarter of its images", gt=0
    )
    key_momentum: float = option(0.999, "share that the key network keeps of itself in a step", ge=0, lt=1)


class PretrainSimclrOptions(ContrastiveOptions):
    """pretrain_simclr: self-supervised pre-training by contrast within the batch (SimCLR)."""

    phase: ClassVar[Phase] = "pretrain_simclr"

    temperature: float = option(0.5, "what similarities are divided by", gt=0)
