"""The words that all parts of Longtail share: splits, shot groups, and the label of no class.

They are values of columns, events, checkpoints and file names. Standard library only.
"""

from typing import Literal, get_args

TRAIN = "train"
VAL = "val"
UNLABELED = "unlabeled"
TEST = "test"
SPLITS = (TRAIN, VAL, UNLABELED, TEST)
HELD_OUT_SPLITS = (VAL, TEST)
"""Labelled images that no training learns from."""

PRETRAINING = "pretrain_"
"""How the phases of pre-trainings begin, which learn no classes of the images."""

NO_CLASS = -1
"""The label of an image that belongs to none of the classes, or whose class is unknown."""

ShotGroup = Literal["many", "medium", "few"]
"""Group of a class by its number of training images; shot_groups() in data/longtail.py has the thresholds."""
SHOT_GROUPS: tuple[ShotGroup, ...] = get_args(ShotGroup)
MANY, MEDIUM, FEW = SHOT_GROUPS
