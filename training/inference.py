"""What a checkpoint says of raw images, batch by batch.

Every forward pass has the same number of images, the last one filled up: the
arithmetic kernels, and with them the last bits, depend on that number. So what is
said of an image does not depend on which others it comes with.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.options.training import SupervisedOptions
from longtail.conf.vocabulary import PRETRAINING_PHASES
from longtail.models.build import build_model
from longtail.training.checkpoints import Checkpoint, ModelCard, load_checkpoint, load_weights
from longtail.training.images import image_tensor
from longtail.training.losses import build_loss, log_priors

LOSS_OPTIONS = ("loss_type", "focal_gamma", "ldam_max_margin", "ldam_scale", "tau")
"""The options of a training that its loss depends on."""


@dataclass(frozen=True)
class Inference:
    """What the network says of N images: logits (N, C) float32 on the CPU, and features (N, D) float32 if asked for."""

    logits: Tensor
    features: Tensor | None


@lru_cache(maxsize=1)
def load_classifier(path: Path, version: str) -> tuple[nn.Module, ModelCard]:
    """The network of a checkpoint, ready to infer; kept, so that a Python worker loads it once.

    version: the content_hash of the file, so that a rewritten checkpoint is never taken for the one that was meant

    Raises UserError as load_classifier_checkpoint does, or if the file is of another version.
    """
    if content_hash(path) != version:
        raise UserError(f"{path} was written anew while it was in use: start the job again")
    checkpoint = load_classifier_checkpoint(path)
    card = checkpoint.model_card
    model = build_model(card.arch, num_classes=len(card.class_names), in_channels=card.image_shape[2], head=card.head)
    load_weights(model, checkpoint, path=path)
    return model.to(memory_format=torch.channels_last).eval(), card


def load_classifier_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint with all that inference needs. Raises UserError unless longtail wrote it with a classifier in it."""
    checkpoint = load_checkpoint(path)
    card = checkpoint.model_card
    if card is None:
        raise UserError(f"{path} does not say how its inputs are normalised: take a checkpoint that longtail trained")
    if card.phase in PRETRAINING_PHASES:
        raise UserError(f"{path} is of {card.phase}, which knows no classes: take a checkpoint of train or train_semi")
    return checkpoint


@torch.inference_mode()
def infer(path: Path, version: str, images: np.ndarray, *, batch_size: int, with_features: bool = False) -> Inference:
    """Logits, and if asked for features, of raw images (N, height, width, channels) uint8.

    Raises UserError if the images are not of the shape that the network was trained on.
    """
    model, card = load_classifier(path, version)
    if images.shape[1:] != card.image_shape:
        raise UserError(f"{path} was trained on images of shape {card.image_shape}, these have {images.shape[1:]}")
    logits, features = [torch.empty(0, len(card.class_names))], []
    for batch in image_tensor(images).split(batch_size):
        full = torch.cat([batch, batch.new_zeros(batch_size - len(batch), *batch.shape[1:])])
        full = full.contiguous(memory_format=torch.channels_last)
        inputs = card.normalisation.apply(full)  # (batch_size, C, H, W)
        before_head = model.features(inputs)  # (batch_size, D)
        logits.append((card.logit_scale * model.fc(before_head)).float()[: len(batch)])
        features.append(before_head.float()[: len(batch)])
    return Inference(torch.cat(logits), torch.cat(features) if with_features and features else None)


def losses(card: ModelCard, logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) losses of logits (N, C) at labels (N,), by the loss that the checkpoint was trained with."""
    options = SupervisedOptions(**{name: card.options[name] for name in LOSS_OPTIONS})
    return build_loss(options, card.class_counts, torch.device("cpu"))(logits, labels)


def adjustment(card: ModelCard, strength: float) -> Tensor:
    """(C,) what post-hoc logit adjustment lowers the logits by (Menon et al. 2021, eq. 9)."""
    return strength * log_priors(card.class_counts)
