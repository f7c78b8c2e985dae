"""Panels of the training itself: a pre-training's task, loss and throughput."""

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.streaming.dashboard.curves import SPLIT_STYLES, curve_figure, curves_of
from longtail.streaming.dashboard.phases import CONTRASTIVE, learns_nothing
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.run_figures import rank_line, score_line
from longtail.streaming.dashboard.selection import STEP
from longtail.streaming.dashboard.shown_run import Content, ShownRun

_CURVES = (
    ("loss", "loss", "%{y:.4g}"),
    ("learning_rate", "learning_rate", "%{y:.4g}"),
    ("speed", "images_per_second", "%{y:,.0f} images/s"),
)
"""Chart, score, and how a tooltip shows it."""


def pretraining_panel(shown: ShownRun) -> Content:
    """How well a pre-training solves its task."""
    epochs = shown.epochs
    if shown.kind is CONTRASTIVE:
        note = (
            "The share of views that are recognised: the other view of the same image outweighs all other images "
            "together. It is measured while the network learns, without labels; so is the loss, InfoNCE."
        )
        if (among := last_candidates(epochs)) is not None:
            note += f" Rank: of the other view among {among:,.0f} by similarity, 1 is best; by chance, half of them."
    else:
        note = f"The task that the network learns without labels, on the {shown.split} set."
    task = "views_recognised" if shown.kind is CONTRASTIVE else "task_accuracy"
    figures = {task: score_line(epochs, "accuracy", view=shown.view)}
    if epochs["positive_rank"].null_count < len(epochs):
        figures["positive_rank"] = rank_line(epochs, view=shown.view)
    return render_note(note), figures


def last_candidates(epochs: pa.Table) -> float | None:
    """Among how many views the other one was looked for in the last epoch, None if that is not known."""
    known = epochs.filter(pc.is_valid(epochs["num_candidates"])).sort_by("epoch")
    return known["num_candidates"][-1].as_py() if len(known) else None


def curves_panel(shown: ShownRun) -> Content:
    """Loss of all splits, learning rate and throughput, over epochs, steps or time."""
    epochs, steps, selection = (*(shown.read(name, shown.run) for name in ("epochs", "steps")), shown.selection)
    over = selection.over if selection.over != STEP or len(steps) else ""
    figures, splits = {}, []
    learns = not learns_nothing(shown.run_rows[shown.run]["phase"], shown.options)
    for name, score, form in _CURVES if learns else _CURVES[:1]:
        curves = curves_of(epochs, steps, score, over=over)
        if name != "loss":  # all splits of an epoch have the speed and the learning rate of its training
            curves = [curve for curve in curves if curve.split == TRAIN] or curves[:1]
        else:
            splits = [curve.split for curve in curves]
        if curves:
            figures[name] = curve_figure(
                curves,
                over=over,
                is_logarithmic=selection.log and name == "loss",
                is_smoothed=selection.smooth,
                form=form,
                from_zero=name != "loss",
                view=shown.view,
            )
    legend = [(split, *SPLIT_STYLES[split]) for split in splits]
    words = []
    if not learns:
        words.append("This run makes its classifier from a checkpoint without learning: it has a loss, and no steps.")
    if UNLABELED in splits:
        words.append("Of the unlabeled images: the mean loss of their pseudo-labels, 0 of those that are not learned.")
    note = render(
        "curves.html", selection=selection, over=over, has_steps=bool(len(steps)), legend=legend, words=" ".join(words)
    )
    return (note, figures) if figures else ("", {})
