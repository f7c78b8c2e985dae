"""How many images a rank gets in a step, from numbers alone: known to the driver before any rank starts.

This module does not import torch, so that a Spark driver can use it without.
"""

import math

from longtail.conf.base.errors import UserError
from longtail.conf.base.user_code import is_code_name
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.manifest import Manifest


def num_unlabeled_drawn(unlabeled_ratio: float, num_labelled: int) -> int:
    """Unlabeled images in an epoch of num_labelled labelled ones. Raises UserError if there are none."""
    drawn = round(unlabeled_ratio * num_labelled)
    if not drawn:
        raise UserError(
            f"--unlabeled_ratio {unlabeled_ratio:g} of {num_labelled} labelled images is no image in an epoch: "
            f"give at least {1 / num_labelled:.2g}"
        )
    return drawn


def check_step_sizes(num_images: int, num_steps: int, world_size: int, *, batch_norm: bool) -> None:
    """Raise UserError unless every rank gets an image in every step of an epoch, and with batch norm two.

    Steps and parts differ by one image at most. The statistics of a single image are no statistics of a batch.
    """
    smallest = num_images // num_steps // world_size
    if smallest < 1:
        raise UserError(
            f"{num_images} images in {num_steps} batches are too few for --world_size {world_size}: "
            f"lower --world_size or raise --batch_size"
        )
    if batch_norm and smallest < 2:
        lower = " or lower --world_size" if world_size > 1 else ""
        raise UserError(
            f"batch norm needs two images per rank in every step, and {num_images} images in {num_steps} batches over "
            f"{world_size} rank(s) leave one: raise --batch_size{lower}"
        )


def steps_per_epoch(options: RunOptions, num_labelled: int, num_unlabeled: int) -> int:
    """Optimizer steps in an epoch; of the pseudo-labels, all count as used.

    An epoch has the labelled images once, and the unlabeled ones, too, unless --unlabeled_ratio draws them.
    """
    shares_batches = isinstance(options, TrainSemiOptions) and options.unlabeled_ratio is None
    return math.ceil((num_labelled + num_unlabeled * shares_batches) / options.batch_size)


def check_steps_of_run(options: RunOptions, manifest: Manifest) -> None:
    """As check_step_sizes, for the training of a set; of its pseudo-labels, all count as used."""
    labelled, unlabeled = manifest.num_images(TRAIN), manifest.num_images(UNLABELED)
    images = labelled
    if isinstance(options, TrainSemiOptions):
        ratio = options.unlabeled_ratio
        images += unlabeled if ratio is None else num_unlabeled_drawn(ratio, labelled)
    # Every built-in network has batch norm, which stands still on a frozen backbone.
    batch_norm = not is_code_name(options.arch) and not isinstance(options, TrainClassifierOptions)
    steps = steps_per_epoch(options, labelled, unlabeled)
    check_step_sizes(images, steps, options.world_size, batch_norm=batch_norm)
