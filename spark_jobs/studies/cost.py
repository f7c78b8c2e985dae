"""The cost of a step: images that pass through the network, and time, estimated from similar steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.longtail import labelled_counts, unlabeled_counts
from longtail.data.manifest import read_manifest
from longtail.data.sources.list_files import read_list
from longtail.data.sources.registry import known_num_classes, source_of
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.studies.planned import PlannedStep
from longtail.training.step_sizes import steps_per_epoch

Kind = tuple[str, str, str | None]
"""Job, data set and network: steps of one kind take about the same time per image."""


@dataclass(frozen=True)
class StepTime:
    """The duration of a finished step."""

    step_id: str
    job: str
    dataset: str
    arch: str | None
    num_images: int | None
    seconds: float


def images_of_step(step: PlannedStep) -> int | None:
    """Images that pass through the network, counted once per epoch and view; None if unknown before the step ran.

    Downloads nothing. Raises UserError if the user's own images cannot be found.
    """
    if step.job == "prepare":
        return 0
    options = step.planned_options
    sizes = _part_sizes(options)
    if sizes is None:
        return None
    labelled, unlabeled = sizes
    if step.job == "gen_pseudolabels":
        return unlabeled
    assert isinstance(options, RunOptions)
    if not isinstance(options, TrainSemiOptions):
        return options.epochs * labelled
    if options.unlabeled_ratio is not None:
        unlabeled = round(options.unlabeled_ratio * labelled)
    views = 1 if options.needs_pseudo_labels else 1 + options.num_strong_views
    return options.rounds * options.epochs * (labelled + views * unlabeled)


def optimizer_steps_of_step(step: PlannedStep) -> int | None:
    """Optimizer steps of a training in all its rounds, if all pseudo-labels are used; 0 for other jobs.

    None if unknown before the step ran.
    """
    options = step.planned_options
    if not isinstance(options, RunOptions):
        return 0
    if (sizes := _part_sizes(options)) is None:
        return None
    rounds = options.rounds if isinstance(options, TrainSemiOptions) else 1
    return rounds * options.epochs * steps_per_epoch(options, *sizes)


def kind_of(step: PlannedStep) -> Kind:
    """The step's kind."""
    return step.job, step.planned_options.dataset, step.arch


def seconds_per_image(times: Iterable[StepTime]) -> dict[Kind, float]:
    """Mean seconds per image of the timed steps, including evaluation, by kind."""
    sums: dict[Kind, list[float]] = {}
    for time in times:
        if time.num_images:
            total = sums.setdefault((time.job, time.dataset, time.arch), [0.0, 0.0])
            total[0] += time.seconds
            total[1] += time.num_images
    return {kind: seconds / images for kind, (seconds, images) in sums.items()}


def _part_sizes(options: DataOptions) -> tuple[int, int] | None:
    """Numbers of labelled training images and of unlabeled images, from the prepared set or else from its options."""
    set_dir = prepared_set_dir(options)
    if set_dir.exists():
        manifest = read_manifest(set_dir)
        return manifest.num_images(TRAIN), manifest.num_images(UNLABELED)
    labelled = options.class_sizes()
    if labelled is None and options.imb_type == "natural":
        if options.list_file is None or options.test_list_file is None or options.unlabeled is not None:
            return None
        return _num_listed(options.list_file, options.image_column, options.label_column), 0
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


@lru_cache
def _num_listed(list_file: Location, path_column: str, label_column: str) -> int:
    """Images of a list, read once for all steps of an experiment: iNaturalist's has 437,513 lines."""
    return len(read_list(list_file, path_column=path_column, label_column=label_column))
