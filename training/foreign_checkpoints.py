"""Checkpoints of other code, which hold weights and say little of them; what they lack is taken from a prepared set.

Those of the published code have a state_dict, the network's name, and nothing about inputs or classes: the published
scripts take both from the data set, and so does this module.
"""

from dataclasses import dataclass, replace

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.datasets import dataset_facts
from longtail.conf.networks import is_known_network
from longtail.conf.options.training import LossOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import Manifest
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_heads import check_foreign_classifier, head_of_checkpoint
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, check_architecture
from longtail.training.losses import logit_scale_of

_LOSS_OF_HEAD = {"linear": "CE", "cosine": "LDAM"}


@dataclass(frozen=True, kw_only=True)
class SetDescription:
    """What a prepared set says of a checkpoint that was trained on its data set. Hashable, and small to send to tasks.

    class_counts: (C,) labelled images of each class
    """

    dataset: str
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    image_shape: tuple[int, int, int]
    normalisation: Normalisation


def set_description(manifest: Manifest) -> SetDescription:
    """The description of a prepared set, normalised by the data set's published constants, else by its own images'."""
    facts = dataset_facts(manifest.dataset)
    own = Normalisation(tuple(manifest.channel_mean), tuple(std or 1.0 for std in manifest.channel_std))
    return SetDescription(
        dataset=manifest.dataset,
        class_names=tuple(manifest.class_names),
        class_counts=tuple(manifest.counts[TRAIN]),
        image_shape=manifest.image_shape,
        normalisation=own if facts.mean is None or facts.std is None else Normalisation(facts.mean, facts.std),
    )


def with_card(checkpoint: Checkpoint, of_set: SetDescription, *, path: Location, arch: str | None) -> Checkpoint:
    """A checkpoint of other code with a description of its model.

    arch: the network that the user gives, needed if the checkpoint does not name it

    Raises UserError if the checkpoint is no classifier of the set's classes, or if its network is unknown.
    """
    check_foreign_classifier(checkpoint, path=path, num_classes=len(of_set.class_names))
    network = checkpoint.arch if is_known_network(checkpoint.arch) else arch
    if arch is not None:
        check_architecture(checkpoint, arch, path=path)
    if network is None:
        raise UserError(f"{path} does not say which network it is of: name it with -a, as -a resnet32")
    head = head_of_checkpoint(checkpoint)
    loss = LossOptions(loss_type=_LOSS_OF_HEAD[head])
    metadata = CheckpointMetadata(
        run=path.parent.name,
        phase="train",
        arch=network,
        head=head,
        logit_scale=logit_scale_of(head, loss),
        class_names=list(of_set.class_names),
        class_counts=list(of_set.class_counts),
        rule_counts=list(of_set.class_counts),
        pseudo_label_round=0,
        image_shape=of_set.image_shape,
        normalisation=of_set.normalisation,
        options={"dataset": of_set.dataset, **loss.model_dump(mode="json")},
    )
    return replace(checkpoint, arch=network, metadata=metadata, is_foreign=True)


def by_position(path: Location | str) -> str:
    """One line on what is assumed of the outputs of a checkpoint without class names."""
    return f"{path} has no class names: its outputs are taken in the order of the classes"


def assumption(of_set: SetDescription, *, path: Location) -> str:
    """One line on what is assumed of a checkpoint of other code."""
    mean, std = (
        ", ".join(f"{value:.4g}" for value in values)
        for values in (of_set.normalisation.mean, of_set.normalisation.std)
    )
    return (
        f"{path} says neither how its inputs are normalised nor which classes it knows: taken to be those of "
        f"{of_set.dataset}, mean {mean}, standard deviation {std}, classes in their order"
    )
