"""What a step of an experiment costs: the images that it takes through the network, and how long that took before."""

from collections.abc import Iterable
from dataclasses import dataclass

from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.longtail import labelled_counts, unlabeled_counts
from longtail.data.manifest import read_manifest
from longtail.data.sources.image_list import read_list
from longtail.data.sources.registry import known_num_classes, source_of
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.studies.plan import Step

Kind = tuple[str, str, str | None]
"""Job, data set, network."""


@dataclass(frozen=True)
class StepTime:
    """How long a finished step took."""

    step_id: str
    job: str
    dataset: str
    arch: str | None
    num_images: int | None
    seconds: float


def images_of_step(step: Step) -> int | None:
    """Images that the step takes through the network, every epoch counted; None if nobody knows before it ran.

    Nothing is downloaded for a published data set. Raises UserError if the user's own images cannot be found.
    """
    if step.job == "prepare":
        return 0
    options = step.planned
    sizes = _part_sizes(options)
    if sizes is None:
        return None
    labelled, unlabeled = sizes
    if step.job == "gen_pseudolabels":
        return unlabeled
    if step.job != "train_semi":
        return options.epochs * labelled
    if options.unlabeled_ratio is not None:
        unlabeled = round(options.unlabeled_ratio * labelled)
    views = 1 if options.needs_pseudo_labels else 1 + options.num_strong_views
    return options.rounds * options.epochs * (labelled + views * unlabeled)


def kind_of(step: Step) -> Kind:
    """What steps have in common that take about the same time for an image."""
    return step.job, step.planned.dataset, getattr(step.planned, "arch", None)


def seconds_by_image(times: Iterable[StepTime]) -> dict[Kind, float]:
    """By kind, the mean seconds an image of the steps that were timed, evaluation included."""
    sums: dict[Kind, list[float]] = {}
    for taken in times:
        if taken.num_images:
            total = sums.setdefault((taken.job, taken.dataset, taken.arch), [0.0, 0.0])
            total[0] += taken.seconds
            total[1] += taken.num_images
    return {kind: seconds / images for kind, (seconds, images) in sums.items()}


def _part_sizes(options: DataOptions) -> tuple[int, int] | None:
    """Labelled images to train on and unlabeled images, from the prepared set or else from its options."""
    set_dir = prepared_set_dir(options)
    if set_dir.exists():
        manifest = read_manifest(set_dir)
        return manifest.num_images(TRAIN), manifest.num_images(UNLABELED)
    labelled = options.class_sizes()
    if labelled is None and options.imb_type == "natural":
        if options.list_file is None or options.test_list_file is None or options.unlabeled is not None:
            return None
        return len(read_list(options.list_file)), 0
    if labelled is None:
        num_classes = known_num_classes(options) or len(source_of(options).locate(options).class_names)
        labelled = labelled_counts(
            num_classes, imb_type=options.imb_type, imb_factor=options.imb_factor, n_max=options.n_max
        )
    if options.imb_factor_unlabel is None:
        return (sum(labelled), 0) if options.unlabeled is None else None
    unlabeled = unlabeled_counts(
        labelled, imb_factor_unlabel=options.imb_factor_unlabel, unlabel_size_factor=options.unlabel_size_factor
    )
    return sum(labelled), sum(unlabeled)
