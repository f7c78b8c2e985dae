"""Labels and probabilities from a checkpoint, for batches of raw images."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from conf.errors import UserError
from models.build import build_model
from training.checkpoints import ModelCard, load_checkpoint, load_weights
from training.tasks import image_tensor


@lru_cache(maxsize=1)
def load_classifier(path: Path, modified_ns: int) -> tuple[nn.Module, ModelCard]:
    """The network of a checkpoint, ready to infer; kept, so that a Python worker loads it once.

    modified_ns: the file's modification time, so that a rewritten checkpoint is read again.

    Raises UserError unless longtail wrote the checkpoint with a classifier in it.
    """
    checkpoint = load_checkpoint(path)
    card = checkpoint.model_card
    if card is None:
        raise UserError(f"{path} does not say how its inputs are normalised: take a checkpoint that longtail trained")
    if card.phase.startswith("pretrain"):
        raise UserError(f"{path} is of {card.phase}, which knows no classes: take a checkpoint of train or train_semi")
    model = build_model(card.arch, num_classes=len(card.class_names), in_channels=card.image_shape[2], head=card.head)
    load_weights(model, checkpoint, path=path)
    return model.to(memory_format=torch.channels_last).eval(), card


@torch.inference_mode()
def predict(path: Path, images: np.ndarray, *, batch_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted classes (N,) int32, their probabilities (N,) float32, and those of all classes (N, C) float32.

    images: (N, height, width, channels) uint8
    """
    model, card = load_classifier(path, path.stat().st_mtime_ns)
    if images.shape[1:] != card.image_shape:
        raise UserError(f"{path} was trained on images of shape {card.image_shape}, these have {images.shape[1:]}")
    batches = image_tensor(images).split(batch_size)
    logits = torch.cat([card.logit_scale * model(card.normalisation.apply(batch)) for batch in batches])  # (N, C)
    probabilities = logits.softmax(dim=1)
    confidences, labels = probabilities.max(dim=1)  # (N,), (N,)
    return labels.int().numpy(), confidences.numpy(), probabilities.numpy()


def pseudo_label_round(path: Path) -> int:
    """The round of the pseudo-labels that a checkpoint's network gives: one more than that of those it learned from."""
    _, card = load_classifier(path, path.stat().st_mtime_ns)
    return card.pseudo_label_round + 1
