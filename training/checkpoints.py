"""Checkpoints: the published layout plus what resuming and inference need.

A checkpoint is a dict of tensors, numbers, strings and plain containers, so it
loads with torch's weights-only reader, which runs no code. Keys as published:
epoch, arch, state_dict, best_acc1, optimizer. All else lies under "longtail" and
"companion". There is no state of a random generator: all that is random in an
epoch follows from the seed and the number of the epoch, which are there.
"""

import io
import json
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.user_code import check_given
from longtail.conf.networks import NETWORKS
from longtail.training.augmentation import Normalisation

HEAD_PREFIX = "fc."
NETWORK_PREFIX = "network."
"""What a learner that is more than the network puts before the network's names."""
# Every network's first tensor: what stands before it was put there by a wrapper (module., encoder_q., _orig_mod., ...).
_FIRST_TENSOR = "conv1.weight"
_MOCO_QUERY = "encoder_q."


FORMAT_VERSION = 1
"""Version of what longtail adds to the published layout of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is needed to use the weights: kept in the checkpoint beside them.

    phase: pretrain_rot, train, train_semi or classifier
    logit_scale: what the head's outputs are multiplied with to be logits
    image_shape: (height, width, channels)
    class_counts: training images per class, pseudo-labelled ones included
    rule_counts: the class sizes that loss and rule went by
    pseudo_label_round: of the pseudo-labels that it learned from, 0 for none
    options: the job's options, by name
    """

    run: str
    phase: str
    arch: str
    head: str
    logit_scale: float
    class_names: list[str]
    class_counts: list[int]
    rule_counts: list[int]
    pseudo_label_round: int
    image_shape: tuple[int, int, int]
    normalisation: Normalisation
    options: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """The epoch that validation data chooses so far, and what the model scored on the test set then.

    The test scores are only reported: the choice is by val_balanced_accuracy.
    """

    epoch: int
    val_balanced_accuracy: float
    test_scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory; model_card is None for one that longtail did not write.

    epoch: number of finished epochs
    companion: tensors beside the network that only its own training needs to go on (MoCo's keys, FixMatch's weights)
    best: None without validation data
    """

    epoch: int
    arch: str
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    best: BestEpoch | None
    model_card: ModelCard | None
    companion: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: a process killed meanwhile leaves the checkpoint before."""
    best, card = checkpoint.best, checkpoint.model_card
    content = {
        "epoch": checkpoint.epoch,
        "arch": checkpoint.arch,
        "state_dict": checkpoint.state_dict,
        "best_acc1": 100 * best.val_balanced_accuracy if best else None,
        "optimizer": checkpoint.optimizer,
        "companion": checkpoint.companion,
        # JSON, so that what is in the file is text and not objects.
        "longtail": json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "model_card": asdict(card) if card else None,
                "best": asdict(best) if best else None,
            }
        ),
    }
    # Serialised in memory: of a full disk torch's own writer only says that a position is not the expected one.
    serialised = io.BytesIO()
    torch.save(content, serialised)
    write_atomically(path, lambda temporary: temporary.write_bytes(serialised.getbuffer()))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of longtail's or in the published layout, to the CPU.

    Raises UserError if the file is missing, damaged, holds code, or is no checkpoint.
    """
    try:
        content = _content(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is not a checkpoint of tensors and plain values; it may hold code, so it is not loaded"
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is damaged or not a checkpoint ({reason})") from None
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(n, str) and torch.is_tensor(t) for n, t in tensors.items()):
        raise UserError(f"{path} is not a checkpoint: it has no state_dict of named tensors")
    epoch = content.get("epoch", 0)
    if not isinstance(epoch, int):
        raise UserError(f"{path} is not a checkpoint: its epoch is {epoch!r}")
    card, best = _longtail_part(content, path)
    return Checkpoint(
        epoch=epoch,
        arch=str(content.get("arch", "unknown")),
        # Those of longtail have no wrapper's names to remove, and may be of any network.
        state_dict=tensors if "longtail" in content else _plain_names(tensors),
        optimizer=content.get("optimizer"),
        best=best,
        model_card=card,
        companion=content.get("companion", {}),
    )


def _content(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        # torch reads past a wrong checksum, and with it a wrong weight.
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"wrong checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _longtail_part(content: dict[str, Any], path: Path) -> tuple[ModelCard | None, BestEpoch | None]:
    if "longtail" not in content:
        return None, None
    try:
        ours = json.loads(content["longtail"])
        check_format_version(ours["format_version"], newest=FORMAT_VERSION, file=path, remedy="train again")
        card, best = ours["model_card"], ours["best"]
        if card is not None:
            card["normalisation"] = Normalisation(**{k: tuple(v) for k, v in card["normalisation"].items()})
            card["image_shape"] = tuple(card["image_shape"])
        return ModelCard(**card) if card else None, BestEpoch(**best) if best else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} has no valid description of its model ({error}): train again") from None


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's own names, without what wrappers put before them; and without what is not the network's."""
    prefix = _prefix(tensors)
    bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    # Older published checkpoints call the head "linear".
    return {
        f"{HEAD_PREFIX}{name.removeprefix('linear.')}" if name.startswith("linear.") else name: tensor
        for name, tensor in bare.items()
    }


def _prefix(tensors: dict[str, Tensor]) -> str:
    """What stands before the network's first tensor; of MoCo's two networks the query encoder is the one to use."""
    found = [name.removesuffix(_FIRST_TENSOR) for name in tensors if f".{name}".endswith(f".{_FIRST_TENSOR}")]
    # Blocks have a first convolution too, further down.
    return min(found, key=lambda prefix: (prefix.count("."), _MOCO_QUERY not in prefix), default="")


def check_architecture(checkpoint: Checkpoint, arch: str, *, path: Path) -> None:
    """Raise UserError if the checkpoint records another network than arch, the one that the user gives."""
    check_given(checkpoint.arch, arch, option="-a", checkpoint=path)
    if checkpoint.arch in NETWORKS and checkpoint.arch != arch:
        raise UserError(f"{path} is a {checkpoint.arch}, not a {arch}: give -a {checkpoint.arch}")


def load_weights(model: nn.Module, checkpoint: Checkpoint, *, path: Path, backbone_only: bool = False) -> int:
    """Copy the checkpoint's tensors into the model; returns how many.

    backbone_only leaves the head as it is (fine-tuning from self-supervision).

    Raises UserError that names the tensors if any that the model needs is missing, unknown or of another shape.
    """
    wanted = model.state_dict()
    offered = checkpoint.state_dict
    if backbone_only:
        wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(HEAD_PREFIX)}
        offered = {name: tensor for name, tensor in offered.items() if not name.startswith(HEAD_PREFIX)}
    problems = [f"{name} is missing" for name in wanted if name not in offered]
    problems += [f"{name} is unknown" for name in offered if name not in wanted]
    problems += [
        f"{name} has shape {tuple(offered[name].shape)}, needed {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in offered and offered[name].shape != tensor.shape
    ]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise UserError(f"{path} ({checkpoint.arch}) does not fit the network: {shown}; choose the -a that made it")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(offered[name])
    return len(wanted)


def companion_of(learner: nn.Module, network: nn.Module) -> dict[str, Tensor]:
    """Of what is trained, the tensors that are not the network's own: none where the network itself is trained."""
    if learner is network:
        return {}
    return {name: tensor for name, tensor in learner.state_dict().items() if not name.startswith(NETWORK_PREFIX)}


def load_companion(learner: nn.Module, network: nn.Module, checkpoint: Checkpoint, *, path: Path) -> None:
    """Copy the checkpoint's companion. Raises UserError if it is not that of such a training."""
    wanted, offered = companion_of(learner, network), checkpoint.companion
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in offered.items()}:
        raise UserError(f"{path} is of another kind of training or of other options: give it as --pretrained_model")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(offered[name])
