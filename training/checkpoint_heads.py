"""What kind of head a checkpoint has, and what to do instead where another one is needed."""

from collections.abc import Mapping

from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.pretraining import PRETRAININGS, PretrainRotOptions
from longtail.training.checkpoints import HEAD_PREFIX, Checkpoint

_WEIGHT, _BIAS = f"{HEAD_PREFIX}weight", f"{HEAD_PREFIX}bias"
_PROJECTION = f"{HEAD_PREFIX}0.weight"
_NUM_ROTATIONS = 4
_REMEDY = "to start a training from its backbone, give it as --pretrained_model"


def head_of_checkpoint(checkpoint: Checkpoint) -> str:
    """The head of a classifier of other code, a key of models.heads.HEADS: one without bias gives cosines."""
    return "linear" if _BIAS in checkpoint.state_dict else "cosine"


def check_phase(checkpoint: Checkpoint, *, path: Location, phase: str = "") -> None:
    """Raise UserError if a checkpoint of longtail is of a pre-training, or used by one, and not by the same.

    phase: of the training that goes on with it, if one does
    """
    metadata = checkpoint.metadata
    if metadata is None or metadata.phase == phase:
        return
    if phase in PRETRAININGS:
        raise UserError(
            f"{path} was written by {metadata.phase}, and {phase} can only resume from its own checkpoints: "
            "leave it out"
        )
    if metadata.phase in PRETRAININGS:
        raise UserError(f"{path} was written by {metadata.phase}, which has no classifier: {_REMEDY}")


def check_foreign_classifier(checkpoint: Checkpoint, *, path: Location, num_classes: int) -> None:
    """Raise UserError if a checkpoint of other code is of a pre-training, or for another number of classes."""
    tensors = checkpoint.state_dict
    if _WEIGHT not in tensors:
        kind = "a contrastive pre-training" if _PROJECTION in tensors else "a backbone alone"
        raise UserError(f"{path} has no classifier ({_WEIGHT}), it is of {kind}: {_REMEDY}")
    # (C, D) of a linear head, (D, C) of a normalised one.
    found = tensors[_WEIGHT].shape[0 if _BIAS in tensors else -1]
    if found == num_classes:
        return
    if found == _NUM_ROTATIONS:
        raise UserError(f"{path} has 4 outputs, as rotation prediction has, and not {num_classes}: {_REMEDY}")
    raise UserError(
        f"{path} is for {found} classes, the prepared set has {num_classes}: name the data set that it was trained on "
        f"with --dataset"
    )


def check_foreign_pretraining(checkpoint: Checkpoint, *, path: Location, phase: str) -> None:
    """Raise UserError if a checkpoint of other code has no head of a pre-training that would go on with it.

    phase: of that pre-training
    """
    tensors = checkpoint.state_dict
    if phase == PretrainRotOptions.phase:
        fits = _BIAS in tensors and tensors[_BIAS].shape == (_NUM_ROTATIONS,)
    else:
        fits = _PROJECTION in tensors
    if not fits:
        raise UserError(f"{path} is of another training than {phase}, which cannot go on from it: leave it out")


def check_kind_of_head(checkpoint: Checkpoint, expected: Mapping[str, Tensor], *, path: Location) -> None:
    """Raise UserError if one of a checkpoint and a network has a linear, the other a normalised classifier.

    expected: the network's state, by name
    """
    if _WEIGHT not in expected or _WEIGHT not in checkpoint.state_dict:
        return
    has_bias, needs_bias = _BIAS in checkpoint.state_dict, _BIAS in expected
    if needs_bias and not has_bias:
        raise UserError(f"{path} has a normalised classifier, which gives cosines: add --loss_type LDAM")
    if has_bias and not needs_bias:
        raise UserError(f"{path} has a linear classifier, LDAM learns a normalised one: choose another --loss_type")
