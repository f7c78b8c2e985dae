"""What the page shows of each kind of run: key figures, panels, and what runs of the kind are compared by.

A pre-training learns a task of its own: there are no shot groups, and its accuracy says nothing of the images' classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longtail.conf.vocabulary import PRETRAINING, SHOT_GROUPS
from longtail.streaming.dashboard.configurations import WITHOUT_LEARNING

_CONTRASTIVE = frozenset({"pretrain_moco", "pretrain_simclr"})


@dataclass(frozen=True)
class KeyFigure:
    """A score of an epoch.

    column: of `epochs`; rises: whether higher is better, None where no change is reported
    unit: % or points for a share, nats, images/s, or empty for a rank; group: its shot group
    """

    name: str
    column: str
    rises: bool | None = True
    unit: str = "%"
    group: str | None = None


@dataclass(frozen=True)
class KindOfRun:
    """A kind of run.

    figures: key figures; card: those in the list of runs
    panels: names of its panels, None for all that are about classes
    compared: the scores of a comparison; charts: those that have lines there, by name of the chart
    has_classes: whether it learns the classes of the images
    """

    figures: tuple[KeyFigure, ...]
    card: tuple[KeyFigure, ...]
    compared: tuple[KeyFigure, ...]
    charts: Mapping[str, KeyFigure]
    panels: frozenset[str] | None = None
    has_classes: bool = True

    def shows(self, panel: str) -> bool:
        """Whether the page of such a run has a panel."""
        return panel != "pretraining" if self.panels is None else panel in self.panels


_BALANCED = KeyFigure("balanced", "balanced_accuracy")
_GROUPS = tuple(KeyFigure(f"{group}-shot", f"{group}_shot_accuracy", group=group) for group in SHOT_GROUPS)
_LOSS = KeyFigure("loss", "loss", rises=False, unit="nats")
_TASK = KeyFigure("task accuracy", "accuracy")
_VIEWS = KeyFigure("views recognised", "accuracy")
_RANK = KeyFigure("rank of the same image", "positive_rank", rises=False, unit="")
_SPEED = KeyFigure("images/s", "images_per_second", rises=None, unit="images/s")

CLASSES = KindOfRun(
    figures=(
        _BALANCED,
        *_GROUPS,
        KeyFigure("head-tail gap", "head_tail_gap", rises=False, unit="points"),
        KeyFigure("label bias", "label_bias", rises=False, unit="nats"),
        KeyFigure("calibration gap", "calibration_gap", rises=False, unit="points"),
    ),
    card=(_BALANCED, KeyFigure("few", "few_shot_accuracy")),
    compared=(_BALANCED, *_GROUPS),
    charts={"compared_balanced": _BALANCED, "compared_few": _GROUPS[-1]},
)
TASK = KindOfRun(
    figures=(_TASK, _LOSS, _SPEED),
    card=(_TASK, _LOSS),
    compared=(_TASK, _LOSS),
    charts={"compared_task": _TASK, "compared_loss": _LOSS},
    panels=frozenset({"pretraining", "curves", "class_accuracy", "confusion_matrix", "comparison"}),
    has_classes=False,
)
CONTRASTIVE = KindOfRun(
    figures=(_LOSS, _VIEWS, _RANK, _SPEED),
    card=(_LOSS, _VIEWS),
    compared=(_LOSS, _VIEWS, _RANK),
    charts={"compared_loss": _LOSS, "compared_views": _VIEWS},
    panels=frozenset({"pretraining", "curves", "comparison"}),
    has_classes=False,
)


def kind_of_run(phase: str) -> KindOfRun:
    """By the phase of its events; a pre-training that the page does not know has a task of its own, too."""
    if phase in _CONTRASTIVE:
        return CONTRASTIVE
    return TASK if phase.startswith(PRETRAINING) else CLASSES


def learns_nothing(phase: str, options: Mapping[str, Any]) -> bool:
    """Whether a run makes its classifier without a training: it has no loss to choose, no rule and no learning rate."""
    return phase == "classifier" and options.get("method") in WITHOUT_LEARNING


def makes_pseudo_labels(phase: str, options: Mapping[str, Any]) -> bool:
    """Whether a run makes its pseudo-labels itself, in every step."""
    return phase == "train_semi" and options.get("semi_method", "pseudo_label") != "pseudo_label"
