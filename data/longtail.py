"""Long-tail arithmetic: the number of images per class.

Sizes follow Cui et al. 2019 (effective number of samples) and Yang & Xu 2020; class 0 of C is the head.
"""

import math
import operator
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import FEW, MANY, MEDIUM, ShotGroup


def labelled_counts(
    num_classes: int, *, imb_type: str, imb_factor: float, n_max: int, class_names: Sequence[str] | None = None
) -> list[int]:
    """Labelled images per class, from head to tail.

    exp:  n_i = int(n_max * imb_factor^(i / (C - 1)))
    step: n_max for the first half of the classes, int(n_max * imb_factor) for the rest
    pareto: n_i = int(n_max * (i + 1)^-p) with p = -ln(imb_factor) / ln(C): sizes by rank under a Pareto law; the last
        class has int(n_max * imb_factor) images, as in the other profiles

    class_names: from head to tail, for messages; by default 0, 1, ...

    Raises UserError if a class would have no image.
    """
    counts = _profile(num_classes, imb_type=imb_type, imb_factor=imb_factor, n_max=n_max)
    if min(counts) < 1:
        empty = counts.index(0)
        name = empty if class_names is None else class_names[empty]
        needed = -(-1 // imb_factor)
        mend = f"--n_max must be at least {needed:.0f}" if needed < 2**63 else "--imb_factor must be larger"
        raise UserError(f"--imb_factor {imb_factor:g} with --n_max {n_max} leaves class {name} without images: {mend}")
    return counts


def largest_n_max(available: Sequence[int], *, imb_type: str, imb_factor: float) -> int | None:
    """The largest --n_max for which every class has enough images, and none is left without; None if there is none.

    available: (num_classes,) from head to tail
    """

    def counts(n_max: int) -> list[int]:
        return _profile(len(available), imb_type=imb_type, imb_factor=imb_factor, n_max=n_max)

    # All sizes grow with n_max.
    n_max = bisect_right(range(1, max(available) + 1), 0, key=lambda n: any(map(operator.gt, counts(n), available)))
    return n_max if n_max and min(counts(n_max)) else None


def _profile(num_classes: int, *, imb_type: str, imb_factor: float, n_max: int) -> list[int]:
    """See labelled_counts."""
    if imb_type == "exp":
        counts = [int(n_max * imb_factor ** (i / (num_classes - 1))) for i in range(num_classes)]
    elif imb_type == "pareto":
        # The power is exactly 1 for the last class, so that its size has no rounding error.
        counts = [int(n_max * imb_factor ** (math.log(i + 1) / math.log(num_classes))) for i in range(num_classes)]
    else:
        head = num_classes // 2
        counts = [n_max] * head + [int(n_max * imb_factor)] * (num_classes - head)
    return counts


def unlabeled_counts(labelled: Sequence[int], *, imb_factor_unlabel: float, unlabel_size_factor: float) -> list[int]:
    """Unlabeled images per (hidden) class: an exponential profile that sums to about K times the labelled ones.

    T = K * sum(labelled); m_i = int((T // C) * f_U^(i / (C - 1))), then each int(m_i * T / sum(m)).
    Above 1, the profile is that of 1 / f_U reversed.
    """
    if imb_factor_unlabel > 1:
        mirrored = unlabeled_counts(
            labelled, imb_factor_unlabel=1 / imb_factor_unlabel, unlabel_size_factor=unlabel_size_factor
        )
        return mirrored[::-1]
    num_classes = len(labelled)
    total = int(unlabel_size_factor * sum(labelled))
    base = total // num_classes
    profile = [int(base * imb_factor_unlabel ** (i / (num_classes - 1))) for i in range(num_classes)]
    if sum(profile) == 0:
        raise UserError(
            f"--unlabel_size_factor {unlabel_size_factor:g} of {sum(labelled)} labelled images leaves no unlabeled "
            f"image: give a larger factor or a larger --n_max"
        )
    return [int(count * total / sum(profile)) for count in profile]


def irrelevant_count(relevant: Sequence[int], *, relevance: float) -> int:
    """Number of irrelevant images to add to ``relevant`` ones (per class), such that their share is ``relevance``."""
    return round(sum(relevant) * (1 - relevance) / relevance)


def by_label(head_to_tail: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Counts (num_classes,) from head to tail, reordered by label."""
    in_order = dict(zip(head_to_tail, counts, strict=True))
    return [in_order[label] for label in range(len(counts))]


def validation_counts(labelled: Sequence[int], *, val_fraction: float) -> list[int]:
    """Images per class that are held out for validation.

    At least one of every class of two or more; a class of one image keeps it for training.
    """
    if val_fraction == 0:
        return [0] * len(labelled)
    return [min(count - 1, max(1, round(count * val_fraction))) for count in labelled]


def shot_groups(train_counts: Sequence[int], *, many_shot: int = 100, few_shot: int = 20) -> list[ShotGroup]:
    """Group of each class: many (more than many_shot training images), few (fewer than few_shot), else medium."""
    return [MANY if n > many_shot else FEW if n < few_shot else MEDIUM for n in train_counts]


def head_half(counts: Sequence[int]) -> np.ndarray:
    """(C,) bool: the half of the classes with the most labels; for an odd number of classes, the smaller half."""
    order = sorted(range(len(counts)), key=lambda class_id: (-counts[class_id], class_id))
    is_head = np.zeros(len(counts), bool)
    is_head[order[: len(counts) // 2]] = True
    return is_head


def check_pool(
    available: Sequence[int],
    labelled: Sequence[int],
    unlabeled: Sequence[int],
    *,
    dataset: str,
    imb_factor_unlabel: float | None = None,
    unlabel_size_factor: float | None = None,
    relevance: float = 1.0,
    unlabeled_pool: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    labelled_remedy: str = "lower --n_max",
    unlabeled_remedy: str = "lower --n_max",
) -> None:
    """Check that the training split has the required images.

    available, labelled, unlabeled: (num_classes,) counts, from head to tail
    unlabeled_pool: (num_classes,) images to draw the unlabeled part from; by default those that are not labelled
    class_names: from head to tail, for messages; by default 0, 1, ...
    labelled_remedy, unlabeled_remedy: what to do if labelled, or unlabeled, images are missing

    Raises UserError, with the largest possible --unlabel_size_factor, if images are missing.
    """
    names = range(len(available)) if class_names is None else class_names
    for name, have, want in zip(names, available, labelled, strict=True):
        if want > have:
            raise UserError(
                f"{dataset} has {have} training images of class {name}, {want} labelled ones are required: "
                f"{labelled_remedy} (the smallest class has {min(available)})"
            )
    left = [have - taken for have, taken in zip(available, labelled, strict=True)]
    pool = left if unlabeled_pool is None else unlabeled_pool
    short = [(i, have, want) for i, (have, want) in enumerate(zip(pool, unlabeled, strict=True)) if want > have]
    if short:
        i, have, want = short[0]
        assert imb_factor_unlabel is not None and unlabel_size_factor is not None
        factor = largest_unlabel_size_factor(labelled, pool, imb_factor_unlabel=imb_factor_unlabel, relevance=relevance)
        offer = f"give --unlabel_size_factor {factor:g}, or" if factor else "no --unlabel_size_factor fits:"
        raise UserError(
            f"{dataset} leaves {have} unlabeled images of class {names[i]} beside {labelled[i]} labelled ones, "
            f"--unlabel_size_factor {unlabel_size_factor:g} at --imb_factor_unlabel {imb_factor_unlabel:g} needs "
            f"{want}: {offer} {unlabeled_remedy}"
        )


def largest_unlabel_size_factor(
    labelled: Sequence[int], pool: Sequence[int], *, imb_factor_unlabel: float, relevance: float = 1.0
) -> float:
    """The largest K, in steps of 0.1, for which every class of the pool has enough images; 0 if there is none."""

    def wanted(tenths: int) -> list[int]:
        try:
            return unlabeled_counts(
                labelled, imb_factor_unlabel=imb_factor_unlabel, unlabel_size_factor=relevance * tenths / 10
            )
        except UserError:
            return [0] * len(labelled)  # too small for a single image

    def fits(tenths: int) -> bool:
        return all(want <= have for want, have in zip(wanted(tenths), pool, strict=True))

    tenths = 0
    # This ends, since at K = pool / labelled every image of the pool is used.
    while fits(tenths + 1):
        tenths += 1
    return tenths / 10 if any(wanted(tenths)) else 0.0
