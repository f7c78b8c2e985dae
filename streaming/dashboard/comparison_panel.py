"""The panel that compares runs at the same epoch."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from longtail.streaming.dashboard.class_axis import ClassAxis
from longtail.streaming.dashboard.class_figures import floats
from longtail.streaming.dashboard.comparison import arm_scores, compared_arms, other_seeds
from longtail.streaming.dashboard.comparison_figures import class_changes, score_of_arms
from longtail.streaming.dashboard.rendering import render
from longtail.streaming.dashboard.selection import MAX_COMPARED
from longtail.streaming.dashboard.shown_run import BARS, Content, ShownRun
from longtail.streaming.dashboard.style import arm_style
from longtail.streaming.dashboard.table_rows import last_epoch
from longtail.streaming.tables.reading import rows_where

MAX_BARS = 8
"""Compared arms that have bars of their classes; lines and rows of the table have all."""


def comparison_panel(shown: ShownRun) -> Content:
    """Runs of the same classes at the latest epoch that all of them have finished."""
    wanted = [run for run in shown.selection.compare if run in shown.run_rows and run != shown.run]
    rows = {run: rows_where(shown.read("class_epochs", run), split=shown.split) for run in wanted}
    names = _class_names(shown.latest)
    comparable = [
        run
        for run in wanted
        if len(rows[run]) and _class_names(rows_where(rows[run], epoch=last_epoch(rows[run]))) == names
    ]
    runs = [shown.run, *comparable]
    epochs = pa.concat_tables([rows_where(shown.read("epochs", run), split=shown.split) for run in runs])
    common = set.intersection(*(set(rows_where(epochs, run=run)["epoch"].to_pylist()) for run in runs))
    epoch = max(common, default=None)
    figures, arms, scores = {}, [], []
    if comparable and epoch is not None:
        arms = compared_arms([shown.run_rows[run] for run in runs], shown.notes, shown.run_rows.values())
        scores = arm_scores(epochs, arms, shown.kind.compared, epoch=epoch)
        lines = {arm.title: arm.runs for arm in arms}
        for name, figure in shown.kind.charts.items():
            figures[name] = score_of_arms(epochs, lines, figure, view=f"{shown.split} {runs}")
        axis = shown.axis(BARS)
        of_epoch = {run: rows_where(of_run, epoch=epoch) for run, of_run in {**rows, shown.run: shown.rows}.items()}
        reference, *others = (_class_means([of_epoch[run] for run in arm.runs], axis) for arm in arms[:MAX_BARS])
        if others and shown.kind.has_classes:
            titles = [arm.title for arm in arms[1:MAX_BARS]]
            changes = dict(zip(titles, others, strict=True))
            figures["class_changes"] = class_changes(reference, changes, axis, view=f"{shown.view} {runs}")
    note = render(
        "comparison.html",
        arms=arms,
        scores=scores,
        looks=[arm_style(index) for index in range(len(arms))],
        compared=shown.kind.compared,
        has_classes=shown.kind.has_classes,
        num_bars=MAX_BARS if shown.kind.has_classes else len(arms),
        has_seeds=any(len(arm.runs) > 1 for arm in arms),
        epoch=epoch,
        split=shown.split,
        left_out=[run for run in wanted if run not in comparable],
        num_others=len(shown.run_rows) - 1,
        seeds=other_seeds(shown.run, shown.run_rows)[:MAX_COMPARED],
        selection=shown.selection,
    )
    return note, figures


def _class_means(of_runs: Sequence[pa.Table], axis: ClassAxis) -> np.ndarray:
    """(rows,) mean accuracy of each row of the axis over these runs; of_runs: class_epochs of one epoch"""
    rows = pa.concat_tables(of_runs)
    return axis.means_of_classes(rows["class_id"].to_numpy(), floats(rows["accuracy"]))


def _class_names(classes: pa.Table) -> dict[int, str]:
    return dict(zip(classes["class_id"].to_pylist(), classes["class_name"].to_pylist(), strict=True))
