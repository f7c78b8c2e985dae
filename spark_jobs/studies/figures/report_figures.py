"""All figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.arms import Arm, arms_of
from longtail.spark_jobs.studies.feature_maps import FeatureMap
from longtail.spark_jobs.studies.figures.class_figures import plot_bars, plot_classes, plot_confusion
from longtail.spark_jobs.studies.figures.difference_figures import plot_differences
from longtail.spark_jobs.studies.figures.label_figures import plot_label_gains
from longtail.spark_jobs.studies.figures.map_figures import plot_maps
from longtail.spark_jobs.studies.figures.score_figures import plot_curve, plot_pseudo_labels, plot_scores
from longtail.spark_jobs.studies.findings import compared
from longtail.spark_jobs.studies.label_gains import label_gains
from longtail.spark_jobs.studies.numeric_axes import numeric_axes
from longtail.spark_jobs.studies.trial_row import Row

MAX_PANELS = 12


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure and its heading in the report."""

    caption: str
    figure: Figure


def report_figures(
    experiment: Experiment, rows: Sequence[Row], maps: Sequence[FeatureMap] = ()
) -> dict[str, CaptionedFigure]:
    """The figures for which the rows have data, by name. maps: of the arms under `shown`"""
    arms = arms_of(experiment, rows)
    figures = {
        "differences": (
            "Paired differences, with 95 % intervals",
            plot_differences(compared(experiment, rows)),
        ),
        "arms": (
            "Balanced accuracy and accuracy per shot group, with standard deviation over the seeds",
            plot_scores(arms),
        ),
        **{
            f"curve_{number}": (f"{axis.axis}: accuracy by {axis.name}", plot_curve(axis, arms))
            for number, axis in enumerate(numeric_axes(experiment), start=1)
        },
        **(_class_figures(experiment, arms) if all(row["class_names"] for row in rows) else {}),
        "pseudo_labels": (
            "Accuracy of the pseudo-labels, and the balanced accuracy that resulted",
            plot_pseudo_labels(arms),
        ),
        "label_gains": (
            "What pseudo-labels gain over labels alone, by how many of them are right",
            plot_label_gains(label_gains(experiment, rows)),
        ),
        "maps": ("Features of test images, mapped by t-SNE: near points have similar features", plot_maps(maps)),
    }
    return {name: CaptionedFigure(caption, figure) for name, (caption, figure) in figures.items() if figure is not None}


def _class_figures(experiment: Experiment, arms: Sequence[Arm]) -> dict[str, tuple[str, Figure | None]]:
    shown = shown_arms(experiment, arms)
    return {
        "classes": ("Accuracy per class, from head to tail: mean over the seeds", plot_classes(arms)),
        "bars": ("Accuracy per class and shot group: mean and standard deviation over the seeds", plot_bars(shown)),
        "confusion": (
            "Confusion: share of the images of a class (row) by predicted class (column)",
            plot_confusion(shown),
        ),
    }


def shown_arms(experiment: Experiment, arms: Sequence[Arm]) -> list[Arm]:
    """The arms under `shown`, or all; at most MAX_PANELS."""
    shown = [arm for levels in experiment.shown for arm in arms if levels.items() <= arm.levels.items()]
    return (shown or list(arms))[:MAX_PANELS]
