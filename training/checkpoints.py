"""Checkpoints in the published layout, with additional fields for resuming and inference.

A checkpoint is a dict of tensors, numbers, strings and plain containers, which is all that training/checkpoint_file.py
reads (torch.load(weights_only=True) reads it too). It has the published keys (epoch, arch, state_dict, best_acc1,
optimizer); all other fields are under "longtail" and "companion". No random generator state is saved: the random
numbers of an epoch depend on the seed and the epoch number only.
"""

import io
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import check_given
from longtail.conf.networks import is_known_network
from longtail.data.pickles import BadPickle
from longtail.training.checkpoint_file import ForeignName, read_checkpoint_file
from longtail.training.checkpoint_metadata import BestEpoch, CheckpointMetadata, metadata_text, read_metadata
from longtail.training.finite import first_not_finite, momenta

HEAD_PREFIX = "fc."
_STATE_DICT_KEYS = ("state_dict", "state_dict_best", "model_state_dict", "model", "net")
"""Where programs keep the network's tensors; others, like torchvision, save nothing else."""
NETWORK_PREFIX = "network."
"""Prefix of the network's tensors in a model that has other modules too."""
# First tensor of every network; a prefix of its name comes from a wrapper (module., encoder_q., _orig_mod., ...).
_FIRST_TENSOR = "conv1.weight"
_MOCO_QUERY = "encoder_q."
_LARGE_NETWORK = "layer4.0"
"""A block that the networks for large images have."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Checkpoint in memory.

    epoch: number of finished epochs
    best: best epoch on validation data; None without validation data
    metadata: None if the checkpoint was not written by longtail
    is_foreign: whether metadata describes a checkpoint of other code, and is taken from a prepared set
    companion: tensors outside the network that are needed to resume its training (MoCo's keys, FixMatch's weights)
    """

    epoch: int
    arch: str
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    best: BestEpoch | None
    metadata: CheckpointMetadata | None
    companion: dict[str, Tensor] = field(default_factory=dict)
    is_foreign: bool = False

    def best_on(self, set_identity: str | None) -> BestEpoch | None:
        """The best epoch, if its scores are of a prepared set: that of this identity. One of version 1 names no set.

        set_identity: Manifest.identity; None for images that belong to no prepared set
        """
        of_set = self.metadata.set_identity if self.metadata else None
        return self.best if of_set in (None, set_identity) else None


def save_checkpoint(path: Location, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: if the process is killed, the previous file remains."""
    best = checkpoint.best
    content = {
        "epoch": checkpoint.epoch,
        "arch": checkpoint.arch,
        "state_dict": checkpoint.state_dict,
        "best_acc1": 100 * best.val_balanced_accuracy if best else None,
        "optimizer": checkpoint.optimizer,
        "companion": checkpoint.companion,
        # JSON text, as the weights-only reader accepts no objects.
        "longtail": metadata_text(checkpoint.metadata, best),
    }
    # Serialised in memory: on a full disk, torch's own writer raises an error that does not name the cause.
    serialised = io.BytesIO()
    torch.save(content, serialised)
    write_atomically(path, lambda temporary: temporary.write_bytes(serialised.getbuffer()))


def load_checkpoint(path: Location) -> Checkpoint:
    """Load a checkpoint, written by longtail or in the published layout, to the CPU.

    Raises UserError if the file is missing, damaged, contains code, is not a checkpoint, or has a NaN or infinite
    number.
    """
    return checkpoint_in(checkpoint_content(path), path=path)


def checkpoint_content(path: Location) -> Any:
    """The value in a checkpoint's file. Raises UserError as load_checkpoint, for what the file is."""
    try:
        return read_checkpoint_file(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except ForeignName as error:
        raise UserError(
            f"{path} is not a checkpoint of tensors and plain values ({error}); it may hold code, so it is not loaded: "
            f"if you trust it, load it with PyTorch and save its state_dict alone"
        ) from None
    except BadPickle as error:
        raise UserError(f"{path} is damaged or not a checkpoint ({error})") from None


def tensors_in(content: Any, *, path: Location) -> dict[str, Tensor]:
    """The network's tensors in a checkpoint's content, by the names there.

    Raises UserError if there are none, or if one has a NaN or infinite number.
    """
    tensors = _state_dict(content) if isinstance(content, dict) else None
    if not _is_named_tensors(tensors):
        raise UserError(f"{path} is not a checkpoint: it has no state_dict of named tensors")
    _check_finite(tensors, {}, None, path)
    return tensors


def is_of_longtail(content: Any) -> bool:
    """Whether a checkpoint's content was written by longtail."""
    return isinstance(content, dict) and "longtail" in content


def checkpoint_in(content: Any, *, path: Location) -> Checkpoint:
    """The checkpoint in a file's content. Raises UserError as load_checkpoint."""
    tensors = tensors_in(content, path=path)
    epoch = content.get("epoch", 0)
    if type(epoch) is not int or not 0 <= epoch < 2**31:
        raise UserError(f"{path} is not a checkpoint: its epoch is {str(epoch)[:40]}, a whole number was expected")
    arch, optimizer, companion = content.get("arch"), content.get("optimizer"), content.get("companion", {})
    if not (optimizer is None or isinstance(optimizer, dict)) or not _is_named_tensors(companion):
        raise UserError(f"{path} is not a checkpoint: its optimizer or companion state is not a dict")
    _check_finite({}, companion, optimizer, path)
    metadata, best = _longtail_part(content, path)
    return Checkpoint(
        epoch=epoch,
        arch=arch if isinstance(arch, str) else "unknown",
        # longtail's own checkpoints have no wrapper prefixes, and may be of any network.
        state_dict=tensors if is_of_longtail(content) else _plain_names(tensors),
        optimizer=optimizer,
        best=best,
        metadata=metadata,
        companion=companion,
    )


def _state_dict(content: dict[str, Any]) -> object:
    """The named tensors of a checkpoint's content, which may be its whole content.

    Of the published ImageNet code, those of both its networks.
    """
    tensors = next((content[key] for key in _STATE_DICT_KEYS if key in content), content or None)
    if isinstance(tensors, dict) and tensors.keys() >= {"feat_model", "classifier"}:
        parts = tensors["feat_model"], tensors["classifier"]
        return {name: tensor for part in parts if isinstance(part, dict) for name, tensor in part.items()}
    return tensors


def _check_finite(
    tensors: dict[str, Tensor], companion: dict[str, Tensor], optimizer: dict[str, Any] | None, path: Location
) -> None:
    others = {f"companion {name}": tensor for name, tensor in companion.items()}
    if name := first_not_finite({**tensors, **others, **momenta(optimizer)}):
        raise UserError(
            f"{path} has NaN or infinite numbers ({name}): its training diverged; train again with a lower --lr"
        )


def _is_named_tensors(value: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(value, dict) and all(isinstance(n, str) and torch.is_tensor(t) for n, t in value.items())


def _longtail_part(content: dict[str, Any], path: Location) -> tuple[CheckpointMetadata | None, BestEpoch | None]:
    return read_metadata(content["longtail"], path=path) if "longtail" in content else (None, None)


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove wrapper prefixes from the names, and tensors that are not the network's."""
    prefix = _prefix(tensors)
    bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if f"{_LARGE_NETWORK}.conv1.weight" in bare:
        # The published network for large images has its first convolution under two names, and shortcuts instead of
        # torchvision's downsample.
        bare = {
            name.replace(".shortcut.", ".downsample."): tensor
            for name, tensor in bare.items()
            if not name.startswith("layer_one.")
        }
    # Older published checkpoints call the head "linear".
    return {
        f"{HEAD_PREFIX}{name.removeprefix('linear.')}" if name.startswith("linear.") else name: tensor
        for name, tensor in bare.items()
    }


def _prefix(tensors: dict[str, Tensor]) -> str:
    """Find the prefix of the network's first tensor; of MoCo's two networks, the query encoder is used."""
    found = [name.removesuffix(_FIRST_TENSOR) for name in tensors if f".{name}".endswith(f".{_FIRST_TENSOR}")]
    # Blocks have a conv1 too, but deeper.
    return min(found, key=lambda prefix: (prefix.count("."), _MOCO_QUERY not in prefix), default="")


def check_architecture(checkpoint: Checkpoint, arch: str, *, path: Location) -> None:
    """Raise UserError if the checkpoint was made with an architecture other than arch, given by the user."""
    check_given(checkpoint.arch, arch, option="-a", checkpoint=path)
    if is_known_network(checkpoint.arch) and checkpoint.arch != arch:
        raise UserError(f"{path} is a {checkpoint.arch}, not a {arch}: give -a {checkpoint.arch}")


def load_weights(model: nn.Module, checkpoint: Checkpoint, *, path: Location, backbone_only: bool = False) -> int:
    """Copy the checkpoint's tensors into the model; return how many.

    backbone_only: leave the head as it is (fine-tuning from self-supervision)

    Raises UserError, naming the tensors, if any is missing, unknown or of another shape.
    """
    expected = model.state_dict()
    given = checkpoint.state_dict
    if backbone_only:
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(HEAD_PREFIX)}
        given = {name: tensor for name, tensor in given.items() if not name.startswith(HEAD_PREFIX)}
    problems = [f"{name} is missing" for name in expected if name not in given]
    problems += [f"{name} is unknown" for name in given if name not in expected]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, needed {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems += [
        f"{name} is of {given[name].dtype}, needed {tensor.dtype}"
        for name, tensor in expected.items()
        if name in given and given[name].is_floating_point() != tensor.is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise UserError(f"{path} ({checkpoint.arch}) does not fit the network: {shown}; choose the -a that made it")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(given[name])
    return len(expected)


def companion_of(model: nn.Module, network: nn.Module) -> dict[str, Tensor]:
    """Return the model's tensors that are not the network's; none if the model is the network."""
    if model is network:
        return {}
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(NETWORK_PREFIX)}


def load_companion(model: nn.Module, network: nn.Module, checkpoint: Checkpoint, *, path: Location) -> None:
    """Copy the checkpoint's companion tensors into the model. Raises UserError if names or shapes differ."""
    expected, given = companion_of(model, network), checkpoint.companion
    if {n: (t.shape, t.dtype) for n, t in expected.items()} != {n: (t.shape, t.dtype) for n, t in given.items()}:
        raise UserError(f"{path} is from another kind of training or other options: give it as --pretrained_model")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(given[name])
