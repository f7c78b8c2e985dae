"""The sizes of the parts of a long-tailed set, per class, from the images that the sources have."""

from collections.abc import Mapping, Sequence

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.options.source import OWN_IMAGES
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED, VAL
from longtail.data.longtail import (
    by_label,
    check_pool,
    irrelevant_count,
    labelled_counts,
    largest_n_max,
    unlabeled_counts,
    validation_counts,
)
from longtail.data.sources.base import Located
from longtail.spark_jobs.frames.long_tail import LongTail


def plan_counts(found: Mapping[tuple[str, int], int], options: DataOptions, located: Located) -> LongTail:
    """Sizes of the parts, checked against the sources.

    found: numbers of images in the sources, by split and label

    Raises UserError if the sources have too few images.
    """
    # Lists are in the order from head to tail, and by label in the result.
    labels = _head_to_tail(found, options, located)
    class_names = [located.class_names[label] for label in labels]
    available, extra = ([found.get((split, label), 0) for label in labels] for split in (TRAIN, UNLABELED))
    labelled = _labelled_counts(available, labels, class_names, options)
    unlabeled, classless = [0] * len(labels), 0
    pool = TRAIN if options.unlabeled is None else UNLABELED
    if options.imb_factor_unlabel is not None:
        unlabeled = unlabeled_counts(
            labelled,
            imb_factor_unlabel=options.imb_factor_unlabel,
            unlabel_size_factor=options.relevance * options.unlabel_size_factor,
        )
        classless = irrelevant_count(unlabeled, relevance=options.relevance)
    elif options.unlabeled is not None:
        unlabeled, classless = extra, found.get((UNLABELED, NO_CLASS), 0)
    check_pool(
        available,
        labelled,
        unlabeled,
        dataset=options.dataset,
        imb_factor_unlabel=options.imb_factor_unlabel,
        unlabel_size_factor=options.unlabel_size_factor,
        relevance=options.relevance,
        unlabeled_pool=None if pool == TRAIN else extra,
        class_names=class_names,
        labelled_remedy=_labelled_remedy(available, options),
        unlabeled_remedy=_unlabeled_remedy(options),
    )
    if classless > found.get((UNLABELED, NO_CLASS), 0):
        raise UserError(
            f"{options.irrelevant_dataset} has {found.get((UNLABELED, NO_CLASS), 0)} images, --relevance "
            f"{options.relevance:g} asks for {classless}: raise it, or lower --unlabel_size_factor"
        )
    own_val = [found.get((VAL, label), 0) for label in labels]
    held_out = [0] * len(labels) if any(own_val) else validation_counts(labelled, val_fraction=options.val_fraction)
    train = [size - of_val for size, of_val in zip(labelled, held_out, strict=True)]
    return LongTail(
        val=by_label(labels, own_val if any(own_val) else held_out),
        train=by_label(labels, train),
        unlabeled=by_label(labels, unlabeled),
        has_own_val=any(own_val),
        pool=pool,
        classless=classless,
    )


def _head_to_tail(found: Mapping[tuple[str, int], int], options: DataOptions, located: Located) -> list[int]:
    """Labels from head to tail: of the user's own images by size, so that the tail is cut from the small classes."""
    labels = located.labels_head_to_tail
    if options.dataset not in OWN_IMAGES:
        return labels
    sizes = options.class_sizes() or []
    if len(sizes) != len(labels):
        sizes = [found.get((TRAIN, label), 0) for label in range(len(labels))]
    return sorted(labels, key=lambda label: (-sizes[label], label))


def _labelled_remedy(available: Sequence[int], options: DataOptions) -> str:
    if options.counts is not None:
        return "lower --counts"
    n_max = largest_n_max(available, imb_type=options.imb_type, imb_factor=options.imb_factor)
    return (
        f"no --n_max fits, raise --imb_factor {options.imb_factor:g}" if n_max is None else f"lower --n_max to {n_max}"
    )


def _unlabeled_remedy(options: DataOptions) -> str:
    if options.counts is not None:
        return "lower --counts"
    if options.imb_type == "natural":
        return "leave images over with --counts or another --imb_type, as natural labels them all"
    return "lower --n_max"


def _labelled_counts(
    available: Sequence[int], labels: Sequence[int], class_names: Sequence[str], options: DataOptions
) -> list[int]:
    """Labelled images per class, from head to tail. Raises UserError if a class would have none."""
    if options.dataset in OWN_IMAGES and 0 in available:
        left_out = " left, as damaged ones are skipped" if options.on_bad_image == "skip" else ""
        raise UserError(
            f"{options.path} has no training image of the class {class_names[available.index(0)]!r}{left_out}: remove "
            f"the class or fill it"
        )
    if (sizes := options.class_sizes()) is not None:
        if len(sizes) != len(labels):
            raise UserError(f"--counts has {len(sizes)} numbers, {options.dataset} has {len(labels)} classes")
        if 0 in sizes:
            empty = class_names[labels.index(sizes.index(0))]
            raise UserError(f"--counts leaves class {empty} without an image: every class needs one")
        return [sizes[label] for label in labels]
    if options.imb_type == "natural":
        return list(available)
    return labelled_counts(
        len(labels),
        imb_type=options.imb_type,
        imb_factor=options.imb_factor,
        n_max=options.n_max,
        class_names=class_names,
    )
