"""The scores of a training or an evaluation in the terminal."""

import math
from functools import partial
from typing import Any

from rich.table import Table

from longtail.conf.vocabulary import SHOT_GROUPS, TEST, TRAIN, VAL
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent, percent_in, task_line
from longtail.streaming.dashboard.phases import CONTRASTIVE, KindOfRun, kind_of_run
from longtail.streaming.intervals import wilson_interval

MISTAKES_SHOWN = 5
MAX_CLASSES_SHOWN = 100
"""A longer table is for programs to read, in result.json."""


def print_result(result: dict[str, Any]) -> None:
    """Per-class accuracy with its 95 % interval, precision and F1 on the test set, and the scores in a few lines; of a
    pre-training, those of its own task.

    Without held-out scores, prints those measured during training.
    """
    terminal = console()
    if not result["splits"]:
        # Stopped between its last epoch and its result: what it measured while learning is in the metric events.
        terminal.print(f"{result['run']}, epoch {result['epoch']}: has all its epochs", soft_wrap=True)
        return
    split = next(split for split in (TEST, VAL, TRAIN) if split in result["splits"])
    test = result["splits"][split]
    kind = kind_of_run(result["phase"])
    terminal.print(f"{result['run']}, epoch {result['epoch']}, {split} set", soft_wrap=True)
    if kind is CONTRASTIVE:  # its task has no classes at all
        terminal.print(f"last epoch: {task_line(test, kind.figures)}", soft_wrap=True)
        return
    if len(result["class_names"]) <= MAX_CLASSES_SHOWN:
        terminal.print(_class_table(result, test, kind))
    else:
        terminal.print(f"{len(result['class_names'])} classes: result.json has the scores of each", soft_wrap=True)
    line_of = scores_line if kind.has_classes else partial(task_line, figures=kind.figures)
    terminal.print(f"last epoch: {line_of(test)}", soft_wrap=True)
    if "confusion" not in test:
        return
    terminal.print(f"last epoch: {details_line(test)}", soft_wrap=True)
    if mistakes := mistakes_line(test["confusion"], result["class_names"]):
        terminal.print(mistakes, soft_wrap=True)
    for name, value in result["chosen_on_validation"].items():
        terminal.print(f"{name} {value:g}", soft_wrap=True)
    if best := result["best_on_validation"]:
        chosen = f"epoch {best['epoch']}, chosen on validation data"
        terminal.print(f"{chosen}: {line_of(best['test_scores'])}", soft_wrap=True)


def _class_table(result: dict[str, Any], scores: dict[str, Any], kind: KindOfRun) -> Table:
    """A row per class; the answers of a pre-training's task have no sizes."""
    table = Table()
    for heading in ("class", "shots", "train") if kind.has_classes else ("answer",):
        table.add_column(heading, justify="right" if heading == "train" else "left")
    for heading in ("measured", "accuracy %", "precision %", "F1 %"):
        table.add_column(heading, justify="right")
    columns = zip(
        result["class_names"], result["shot_groups"], result["class_counts"], scores["totals"]["support"],
        scores["class_accuracy"], scores["class_precision"], scores["class_f1"], strict=True,
    )  # fmt: skip
    for name, group, train_count, support, accuracy, *others in columns:
        interval = (None, None) if accuracy is None else wilson_interval(accuracy, support, sqrt=math.sqrt)
        measured = f"{support:.0f}", percent_in(accuracy, *interval)
        sizes = (group, str(train_count)) if kind.has_classes else ()
        table.add_row(name, *sizes, *measured, *map(percent, others))
    return table


def scores_line(scores: dict[str, Any]) -> str:
    """Accuracy, balanced accuracy and the accuracy of each shot group, in percent."""
    groups = ", ".join(f"{group} {percent(scores[f'{group}_shot_accuracy'])}" for group in SHOT_GROUPS)
    means = [f"{name.replace('_', ' ')} {percent(scores[name])} %" for name in ("accuracy", "balanced_accuracy")]
    return ", ".join([*means, groups])


def details_line(scores: dict[str, Any]) -> str:
    """Top-5 accuracy, which few classes do not have, macro F1 and calibration error, in percent."""
    top5 = "" if scores["top5_accuracy"] is None else f"top-5 accuracy {percent(scores['top5_accuracy'])} %, "
    return (
        f"{top5}macro F1 {percent(scores['macro_f1'])} %, "
        f"calibration error {percent(scores['expected_calibration_error'])} %"
    )


def mistakes_line(confusion: dict[str, list[int]], class_names: list[str]) -> str:
    """The most frequent mistakes; empty if there are none."""
    cells = zip(confusion["count"], confusion["target"], confusion["predicted"], strict=True)
    wrong = sorted(((-count, target, guess) for count, target, guess in cells if target != guess))[:MISTAKES_SHOWN]
    shown = [f"{class_names[target]} as {class_names[guess]} ({-count})" for count, target, guess in wrong]
    return f"most often mistaken: {', '.join(shown)}" if shown else ""
