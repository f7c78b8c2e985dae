"""A finished training or evaluation: its scores, its events, and predictions by its network."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import figure_title
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.spark_jobs.api.figures import shown
from longtail.spark_jobs.api.images import Class, Images, images_of_run
from longtail.spark_jobs.api.known_options import with_known_options
from longtail.spark_jobs.api.model import Model, load
from longtail.spark_jobs.display.confusion import confusion_figure
from longtail.spark_jobs.steps.run_images import MOST_SHOWN
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import event_files_of
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.tables.plots import show_epochs
from longtail.training.run_log import read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame

_HEADLINES = (
    "accuracy", "balanced_accuracy", "many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy", "macro_f1",
    "top5_accuracy", "expected_calibration_error", "loss",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scores:
    """path: the directory of the result; result: the scores in the layout of result.json (docs/training.md)"""

    path: Location
    result: dict[str, Any]

    @property
    def scores(self) -> dict[str, float | None]:
        """The main scores of the test set, or else of the validation or training set; empty without any."""
        found = self._split_scores
        return {name: found[name] for name in _HEADLINES if name in found}

    @property
    def classes(self) -> pd.DataFrame:
        """A row for each class: name, shot group, training images, and accuracy, precision and F1."""
        columns = {"class_name": "class_names", "shot_group": "shot_groups", "train_count": "class_counts"}
        table = pd.DataFrame({name: self.result[key] for name, key in columns.items()})
        found = self._split_scores
        return table.assign(
            **{
                name: pd.array(found[key], dtype="Float64")
                for name, key in (("accuracy", "class_accuracy"), ("precision", "class_precision"), ("f1", "class_f1"))
                if key in found
            }
        )

    def confusion(self) -> "Figure":
        """The confusion matrix of the test set, or else of the validation set: shares of each true class's images.

        Raises UserError without held-out images.
        """
        found = self._split_scores
        if "confusion" not in found:
            raise UserError(f"{self.path} has no scores of held-out images, hence no confusion matrix")
        names, title = self.result["class_names"], figure_title(self.path.name)
        return shown(confusion_figure(found["confusion"], names, title=title))

    @property
    def _split_scores(self) -> dict[str, Any]:
        splits = self.result["splits"]
        return next((splits[split] for split in (TEST, VAL, TRAIN) if split in splits), {})


@dataclass(frozen=True, kw_only=True)
class Run(Scores):
    """A finished training; path is its directory.

    checkpoint: of its last epoch
    arch: the network that the user gave, if it is code of their own
    """

    checkpoint: Location
    arch: str | None = None

    @cached_property
    def model(self) -> Model:
        """The classifier, as load() gives it. Raises UserError after a pre-training, which has none."""
        return load(self.checkpoint, arch=self.arch)

    def predict(self, frame: "DataFrame", **options: Any) -> "DataFrame":
        """The frame with the model's predictions; see Model.predict."""
        return self.model.predict(frame, **options)

    def events(self) -> pd.DataFrame:
        """Its metric events, a row each, in the order of time (docs/analytics.md)."""
        events_dir = self.path.parent / EVENTS_DIRECTORY
        begin = len(str(events_dir)) + 1
        names = [str(file)[begin:] for file in event_files_of(events_dir, self.path.name)]
        pieces = [piece.as_lines() for piece in read_event_files(events_dir, names)]
        texts = [piece["value"].cast(pa.binary()) for piece in pieces]
        lines = dict.fromkeys(line for text in texts for line in text.to_pylist())  # each event once
        rows = [row for line in lines if (row := _event_of(line, self.path.name))]
        rows.sort(key=lambda row: row["emitted_at"])
        return pd.DataFrame(rows)

    def log(self) -> str:
        """What happened in its last attempts, a line each with the time; empty if there is no log."""
        return read_log(self.path)

    @with_known_options
    def images(
        self,
        of: Class | None = None,
        *,
        truth: Class | None = None,
        prediction: Class | None = None,
        pseudo_labels: Class | None = None,
        split: str | None = None,
        most_shown: int = MOST_SHOWN,
    ) -> Images:
        """Images behind the numbers, with confidence, and the truth where it is known: a gallery in a notebook.

        of: a class: its mistakes, what was predicted as it, and the least sure of what was recognised
        truth, prediction: a cell of the confusion matrix; without one of them, a row or a column
        pseudo_labels: a class: unlabeled images that were predicted as it
        split: whose images, by default those of the test set

        Classes are given by name or number. Raises UserError if the run has kept no predictions, or if its prepared
        set is not there.
        """
        return images_of_run(
            self.path, self.result["class_names"], of, truth=truth, prediction=prediction,
            pseudo_labels=pseudo_labels, split=split, most_shown=most_shown,
        )  # fmt: skip

    def curves(self) -> "Figure":
        """Accuracy of each split after each epoch in which it was evaluated."""
        from matplotlib.figure import Figure

        events = self.events()
        totals = events[events["kind"] == "class"].groupby(["split", "epoch"])[["correct", "support"]].sum()
        accuracy = (totals["correct"] / totals["support"]).unstack("split")
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for split in accuracy.columns:
            evaluated = accuracy[split].dropna()
            axes.plot(evaluated.index, evaluated, marker=".", label=split)
        show_epochs(axes)
        axes.set(ylabel="accuracy", title=figure_title(self.path.name))
        axes.legend()
        return shown(figure)


def _event_of(line: bytes, run: str) -> dict[str, Any] | None:
    """The event of a run in a line; None if it has none."""
    try:
        event = json.loads(line)
        return event if event["run"] == run and isinstance(event["emitted_at"], int | float) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
