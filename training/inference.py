"""Inference with a checkpoint on raw images, batch by batch.

Every forward pass has the same number of images, the last one padded: the choice of arithmetic kernels, and with it the
last bits of the result, depends on that number. So the result for an image does not depend on the other images. On a
CPU, batch normalisations are folded into convolutions, and a pass is small enough for its caches (docs/speed.md).
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import check_given
from longtail.conf.options.base import JobOptions
from longtail.conf.options.training import LossOptions
from longtail.data.class_shares import read_class_shares, shares_by_name
from longtail.models.build import build_checked_model
from longtail.models.folding import fold_batch_norms
from longtail.models.heads import ReorderedHead
from longtail.models.network import Network
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_heads import check_phase
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, load_checkpoint, load_weights
from longtail.training.foreign_checkpoints import SetDescription, with_card
from longtail.training.losses import build_loss, log_priors
from longtail.training.prior_shift import log_ratios

CPU = torch.device("cpu")
_PASS_PIXELS, _SMALL_NETWORK = 100 * 32 * 32, 2_000_000
"""Pixels of a forward pass on a CPU: the activations of more leave its caches. Of networks with so few parameters: the
weights of larger ones would be read too often."""
LOSS_OPTIONS = LossOptions.model_fields.keys() - JobOptions.model_fields.keys()


@dataclass(frozen=True)
class Inference:
    """Results for N images: logits (N, C) and, if requested, features (N, D); float32 on the CPU."""

    logits: Tensor
    features: Tensor | None


@lru_cache(maxsize=1)
def load_classifier(
    path: Location,
    version: str,
    arch: str | None = None,
    order: tuple[int, ...] | None = None,
    of_set: SetDescription | None = None,
    device: torch.device = CPU,
) -> tuple[Network, CheckpointMetadata]:
    """The network of a checkpoint, in evaluation mode; cached, so that a Python worker loads it once.

    version: content_hash of the file, so that a rewritten checkpoint is never used by mistake
    arch: the network that the user gives, which is needed if it is code of their own
    order: class order[i] of the checkpoint becomes class i, of the network's outputs and of the metadata
    of_set: what a checkpoint of other code is described by
    device: where the network is

    Raises UserError as load_classifier_checkpoint does, if the file is of another version, or if the checkpoint records
    code that the user does not give.
    """
    if content_hash(path) != version:
        raise UserError(f"{path} was rewritten while it was in use: start the job again")
    network, metadata = read_classifier(path, arch, order, of_set)
    return for_inference(network, metadata.image_shape).to(device), metadata


def for_inference(network: Network, image_shape: tuple[int, int, int]) -> Network:
    """A network in evaluation mode with fewer operations: it can do nothing but infer any more.

    image_shape: (height, width, channels)
    """
    height, width, channels = image_shape
    fold_batch_norms(network, (channels, height, width))
    return network.to(memory_format=torch.channels_last)


def read_classifier(
    path: Location,
    arch: str | None = None,
    order: tuple[int, ...] | None = None,
    of_set: SetDescription | None = None,
) -> tuple[Network, CheckpointMetadata]:
    """As load_classifier, whatever the file's version, and not cached."""
    checkpoint = load_classifier_checkpoint(path, of_set, arch)
    metadata = checkpoint.metadata
    assert metadata is not None
    check_given(metadata.arch, arch, option="-a", checkpoint=path)
    height, width, channels = metadata.image_shape
    model = build_checked_model(
        metadata.arch, num_outputs=len(metadata.class_names), image_shape=(channels, height, width), head=metadata.head
    )
    load_weights(model, checkpoint, path=path)
    if order is not None:
        model.fc = ReorderedHead(model.fc, order)
    return model.to(memory_format=torch.channels_last).eval(), metadata.in_order(order)


def load_classifier_checkpoint(
    path: Location, of_set: SetDescription | None = None, arch: str | None = None
) -> Checkpoint:
    """A checkpoint of a classifier, with the description of its model.

    of_set, arch: what a checkpoint of other code is described by, and its network if it does not name it

    Raises UserError if it has no classifier, or if it is of other code and nothing describes it.
    """
    checkpoint = load_checkpoint(path)
    check_phase(checkpoint, path=path)
    if checkpoint.metadata is not None:
        return checkpoint
    if of_set is None:
        raise UserError(
            f"{path} does not say how its inputs are normalised: take a checkpoint that longtail trained, or make one "
            f"of it by `longtail calibrate` with the --dataset that it was trained on and a --val_fraction"
        )
    return with_card(checkpoint, of_set, path=path, arch=arch)


def infer(
    path: Location,
    version: str,
    images: np.ndarray,
    *,
    batch_size: int,
    with_features: bool = False,
    arch: str | None = None,
    order: tuple[int, ...] | None = None,
    of_set: SetDescription | None = None,
    device: torch.device = CPU,
) -> Inference:
    """Logits and, if requested, features of raw images (N, height, width, channels) uint8.

    path, version, arch, order, of_set, device: see load_classifier

    Raises UserError as infer_with does.
    """
    model, metadata = load_classifier(path, version, arch, order, of_set, device)
    return infer_with(
        model, metadata, images, path=path, batch_size=batch_size, with_features=with_features, device=device
    )


@torch.inference_mode()
def infer_with(
    model: Network,
    metadata: CheckpointMetadata,
    images: np.ndarray,
    *,
    path: Location,
    batch_size: int,
    with_features: bool = False,
    device: torch.device = CPU,
) -> Inference:
    """As infer, with a network that was loaded from ``path`` and is on the device.

    Raises UserError if the images are not of the shape that the network was trained on, if an output is no number, or
    if a GPU has too little memory.
    """
    if images.shape[1:] != metadata.image_shape:
        raise UserError(f"{path} was trained on images of shape {metadata.image_shape}, these have {images.shape[1:]}")
    logits, features = list[Tensor](), list[Tensor]()
    try:
        for before_head, num_images in feature_passes(
            model, metadata.normalisation, _tensor_to_read(images), batch_size=batch_size, device=device
        ):
            found = model.fc(before_head)
            if metadata.logit_scale != 1:  # many classes: each pass over the logits counts
                found = metadata.logit_scale * found
            logits.append(found.float()[:num_images].cpu())
            features.append(before_head.float()[:num_images].cpu())
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"{device} has too little memory for {path} and {batch_size} images at once: lower --batch_size, or let "
            f"fewer tasks share a GPU (spark.task.resource.gpu.amount)"
        ) from None
    everything = scaled(metadata, _joined(logits, len(metadata.class_names)))
    if not _all_are_finite(everything):
        raise UserError(f"{path} gives NaN or infinite outputs for some images: its training diverged; train again")
    return Inference(everything, torch.cat(features) if with_features and features else None)


def _joined(parts: list[Tensor], width: int) -> Tensor:
    """(N, width), without a copy of a single part."""
    return parts[0] if len(parts) == 1 else torch.cat([torch.empty(0, width), *parts])


def _all_are_finite(values: Tensor) -> bool:
    """As values.isfinite().all(), which reads and writes the values four times."""
    # A sum with NaN or infinity is one of these itself; that of finite values may be infinite, too.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def feature_passes(
    model: Network, normalisation: Normalisation, images: Tensor, *, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, int]]:
    """What the network computes before its head, a forward pass at a time.

    images: (N, channels, height, width) uint8

    Yields features (size, D), of which the first n belong to the next n images, and n. The size does not depend on N.
    """
    size = _images_per_pass(model, images, batch_size, device)
    for batch in images.split(size):
        full = batch
        if len(batch) < size:
            full = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
        full = full.to(device, memory_format=torch.channels_last)
        yield model.features(normalisation.apply(full)), len(batch)


def _images_per_pass(model: Network, images: Tensor, batch_size: int, device: torch.device) -> int:
    """How many of the images (N, channels, height, width) a forward pass has: the same for any N.

    Full batches are divided evenly, so that hardly any image of their passes is padding.
    """
    if device.type != "cpu" or sum(weights.numel() for weights in model.parameters()) > _SMALL_NETWORK:
        return batch_size
    most = max(1, _PASS_PIXELS // (images.shape[2] * images.shape[3]))
    return ceil(batch_size / ceil(batch_size / most))


def _tensor_to_read(images: np.ndarray) -> Tensor:
    """(N, height, width, channels) as (N, channels, height, width) uint8, channels last, without a copy.

    It may be Arrow's own memory, and must not be written to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch knows no tensors that are for reading only
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def scaled(metadata: CheckpointMetadata, logits: Tensor) -> Tensor:
    """The logits (N, C), by the checkpoint's calibration if it has one."""
    if metadata.calibration is None:
        return logits
    scaling = metadata.calibration.scaling
    return logits / scaling.temperature + torch.tensor(scaling.biases, dtype=logits.dtype, device=logits.device)


def losses(
    path: Location, metadata: CheckpointMetadata, logits: Tensor, labels: Tensor, *, loss_type: str | None = None
) -> Tensor:
    """(N,) losses of logits (N, C) for labels (N,), by the loss that the checkpoint was trained with.

    path: the checkpoint's, for messages; loss_type: the loss that the user gives, needed if it is code of their own
    """
    try:
        check_given(metadata.options["loss_type"], loss_type, option="--loss_type", checkpoint=path)
        options = LossOptions(**{name: metadata.options[name] for name in LOSS_OPTIONS})
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not say which loss it was trained with ({reason}): train again") from None
    return build_loss(options, metadata.rule_counts, torch.device("cpu"))(logits, labels)


def class_offsets(
    metadata: CheckpointMetadata, *, logit_adjustment: float | None = None, shares: Sequence[float] | None = None
) -> tuple[float, ...] | None:
    """(C,) what is added to the logits for other class shares; None for nothing.

    logit_adjustment: strength of post-hoc logit adjustment (Menon et al. 2021, eq. 9)
    shares: (C,) class shares of the images that are predicted
    """
    if logit_adjustment is not None:
        return tuple((-logit_adjustment * log_priors(metadata.rule_counts)).tolist())
    return None if shares is None else tuple(log_ratios(np.array(shares), shares_of_outputs(metadata)).tolist())


def shares_of_outputs(metadata: CheckpointMetadata) -> np.ndarray:
    """(C,) the class shares that the probabilities hold for: of the calibration, else of the training."""
    return (
        training_shares(metadata)
        if metadata.calibration is None
        else np.array(metadata.calibration.scaling.class_shares)
    )


def prior_shares(metadata: CheckpointMetadata, prior: str | Path | Mapping[str, float]) -> Sequence[float]:
    """(C,) class shares to predict for: `uniform`, `train`, shares by class name, or a CSV file of them.

    Raises UserError for a file or names that do not fit the checkpoint's classes.
    """
    if prior == "uniform":
        return [1 / len(metadata.class_names)] * len(metadata.class_names)
    if prior == "train":
        return training_shares(metadata).tolist()
    if isinstance(prior, Mapping):
        return shares_by_name(prior, metadata.class_names, where="prior")
    if not isinstance(prior, str | Path):
        raise UserError(
            f"prior is of the type {type(prior).__name__}: uniform, train, a mapping or a file was expected"
        )
    return read_class_shares(Path(prior), metadata.class_names)


def training_shares(metadata: CheckpointMetadata) -> np.ndarray:
    """(C,) class shares of the images that loss and rule were given."""
    counts = np.array(metadata.rule_counts, np.float64)
    return counts / counts.sum()
