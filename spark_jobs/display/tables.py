"""The live tables in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from longtail.conf.base.shown_text import printable
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.streaming.dashboard.phases import KeyFigure, kind_of_run
from longtail.streaming.dashboard.values import number
from longtail.streaming.events.schema import FAILED, FINISHED, INTERRUPTED
from longtail.streaming.tables.schemas import LOST

Row = dict[str, Any]

MAX_CLASSES_SHOWN = 30
_STATUS_STYLE = {FINISHED: "green", INTERRUPTED: "yellow", FAILED: "red", LOST: "red"}
_GROUP_STYLE = dict(zip(SHOT_GROUPS, ("cyan", "yellow", "magenta"), strict=True))


def percent(value: float | None) -> str:
    """A share in percent with one decimal; "-" for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def percent_in(value: float | None, low: float | None, high: float | None) -> str:
    """A share with its interval in whole percent in brackets, "75.0 (30-95)", where there is one; "-" for None."""
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f})"
    return f"{percent(value)}{interval}"


def signed_percent(value: float | None) -> Text:
    """A difference of shares in percentage points with its sign; green for a gain, red for a loss."""
    if value is None:
        return Text("-")
    return Text(f"{100 * value:+.1f}", style="green" if value > 0 else "red" if value < 0 else "")


def per_class_table(rows: Sequence[Row], *, max_classes: int = MAX_CLASSES_SHOWN, has_classes: bool = True) -> Table:
    """A table of `class_epochs` rows of one run, split and epoch; 80 columns wide.

    Accuracies have their 95 % interval in brackets. Of more than max_classes (at least 2) classes, those with the most
    and those with the fewest training images, and how many lie between them.

    has_classes: whether these are classes of images, and not answers of a pre-training's task, which have no sizes
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("class" if has_classes else "answer")
    if has_classes:
        table.add_column("shots", no_wrap=True)
        table.add_column("train", justify="right", no_wrap=True)
    for heading in ("accuracy\n%", "change", "best\n%", "true\nshare %", "predicted\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    head, tail = sorted(rows, key=lambda row: row["class_id"]), []
    if len(rows) > max_classes:
        ordered = sorted(rows, key=lambda row: (-row["train_count"], row["class_id"]))
        num_tail = max_classes // 2
        head, tail = ordered[: max_classes - num_tail], ordered[-num_tail:]
    for place, row in enumerate([*head, *tail]):
        if tail and place == len(head):
            table.add_row(f"… {len(rows) - max_classes:,} between")
        table.add_row(
            printable(row["class_name"]),
            *(_size(row) if has_classes else ()),
            percent_in(row["accuracy"], row["accuracy_low"], row["accuracy_high"]),
            signed_percent(row["accuracy_change"]),
            percent(row["best_accuracy"]),
            percent(row["true_share"]),
            percent(row["predicted_share"]),
        )
    return table


def _size(row: Row) -> tuple[Text, str]:
    """Of a class: its shot group, and how many images it has."""
    return Text(row["shot_group"], style=_GROUP_STYLE.get(row["shot_group"], "")), str(row["train_count"])


def state_line(row: Row) -> Text:
    """The status of a run, its finished epochs and why it ended, in one line. row: of `runs`"""
    reason = f": {row['message']}" if row["message"] else ""
    epochs = f"epoch {row['epoch'] or 0} of {row['num_epochs'] or '?'}"
    return Text(printable(f"{row['status']}, {epochs}{reason}"), style=_STATUS_STYLE.get(row["status"], ""))


def alert_lines(alerts: Sequence[Row], *, run: str) -> list[Text]:
    """The alerts of a run, one line each. alerts: rows of `alerts`"""
    return [
        Text(
            printable(f"! {row['split']}: {row['message']}" if row["split"] else f"! {row['message']}"),
            style="bold red",
        )
        for row in alerts
        if row["run"] == run
    ]


def summary_line(row: Row) -> str:
    """One line about one epoch of a run. row: of `epochs`"""
    place = f"{row['phase']} epoch {row['epoch']}/{row['num_epochs']}, {row['split']}"
    kind = kind_of_run(row["phase"])
    if not kind.has_classes:
        return printable(f"{place}: {task_line(row, kind.figures)}")
    groups = ", ".join(f"{group} {percent(row[f'{group}_shot_accuracy'])}" for group in SHOT_GROUPS)
    bias = "-" if row["label_bias"] is None else f"{row['label_bias']:.3f}"
    return printable(
        f"{place}: balanced accuracy {percent(row['balanced_accuracy'])} %, {groups}, "
        f"label bias {bias}, {row['images_per_second']:.0f} images/s"
    )


def task_line(scores: Mapping[str, Any], figures: Sequence[KeyFigure]) -> str:
    """How well a pre-training solves its own task: those of its key figures that there are."""
    known = [figure for figure in figures if scores.get(figure.column) is not None]
    return ", ".join(_figure(figure, scores[figure.column]) for figure in known)


def _figure(figure: KeyFigure, value: float) -> str:
    if figure.unit == "images/s":
        return f"{value:.0f} images/s"
    return f"{figure.name} {number(value, figure.unit)}{' %' if figure.unit == '%' else ''}"
