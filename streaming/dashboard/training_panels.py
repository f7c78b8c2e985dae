"""Panels of the training itself: a pre-training's task, loss and throughput."""

from longtail.conf.vocabulary import TRAIN
from longtail.streaming.dashboard.curves import SPLIT_STYLES, curve_figure, curves_of
from longtail.streaming.dashboard.phases import CONTRASTIVE
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.run_figures import score_line
from longtail.streaming.dashboard.selection import STEP
from longtail.streaming.dashboard.shown_run import Content, ShownRun
from longtail.streaming.tables.reading import rows_where


def pretraining_panel(shown: ShownRun) -> Content:
    """How well a pre-training solves its task."""
    epochs = rows_where(shown.epochs, run=shown.run)
    if shown.kind is CONTRASTIVE:
        note = (
            "The share of views that are recognised: the other view of the same image outweighs all other images "
            "together. It is measured while the network learns, without labels; so is the loss, InfoNCE."
        )
    else:
        note = f"The task that the network learns without labels, on the {shown.split} set."
    figure = score_line(epochs, "accuracy", view=shown.view)
    return render_note(note), {"pretraining_task": figure}


def curves_panel(shown: ShownRun) -> Content:
    """Loss of all splits and throughput, over epochs, steps or time."""
    epochs, steps, selection = (*(shown.read(name, shown.run) for name in ("epochs", "steps")), shown.selection)
    over = selection.over if selection.over != STEP or len(steps) else ""
    figures, splits = {}, []
    for name, score, form in (("loss", "loss", "%{y:.4g}"), ("speed", "images_per_second", "%{y:,.0f} images/s")):
        curves = curves_of(epochs, steps, score, over=over)
        if name == "speed":  # all splits of an epoch have the speed of its training
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
                view=shown.view,
            )
    legend = [(split, *SPLIT_STYLES[split]) for split in splits]
    note = render("curves.html", selection=selection, over=over, has_steps=bool(len(steps)), legend=legend)
    return (note, figures) if figures else ("", {})
