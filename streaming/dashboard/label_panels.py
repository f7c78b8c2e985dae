"""Panels of labels that a run makes: pseudo-labels and their quality, and predictions of a stream."""

import pyarrow.compute as pc

from longtail.conf.palette import NEUTRAL
from longtail.streaming.dashboard.class_figures import pseudo_label_classes, pseudo_label_quality, pseudo_labels
from longtail.streaming.dashboard.prediction_figures import (
    latest_stream,
    latest_window,
    prediction_shares,
    prediction_windows,
    window_note,
)
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.shown_run import BARS, LINES, Content, ShownRun, head_to_tail
from longtail.streaming.dashboard.style import RUN_COLOURS
from longtail.streaming.dashboard.table_rows import (
    confident_in_steps,
    last_epoch,
    latest_round,
    previous_round,
    pseudo_labels_in_training,
    scores_of_labels,
)
from longtail.streaming.tables.reading import rows_where


def pseudo_labels_panel(shown: ShownRun) -> Content:
    """Those of the steps; otherwise those that the run's classifier made; otherwise those that it is trained on."""
    axis = shown.axis(BARS)
    if shown.makes_pseudo_labels:
        of_steps = shown.of_steps
        latest = rows_where(of_steps, epoch=last_epoch(of_steps))
        note = render("pseudo_labels_of_steps.html", epoch=last_epoch(of_steps), is_known=bool(len(latest)))
        if not len(latest):
            return note, {}
        return note, {"pseudo_labels": pseudo_labels(confident_in_steps(latest), axis, view=shown.view)}
    labelled = latest_round(shown.read("pseudo_labels", shown.run))
    before = previous_round(labelled, shown.read) if len(labelled) else None
    trained_on = pseudo_labels_in_training(shown.latest)
    note = render(
        "pseudo_labels.html",
        labelled=bool(len(labelled)),
        trained_on=bool(len(trained_on)),
        banded=axis.is_banded,
        has_previous_round=before is not None,
        estimates=latest_round(shown.read("unlabeled_estimates", shown.run)).to_pylist(),
    )
    rows = labelled if len(labelled) else trained_on
    return note, {"pseudo_labels": pseudo_labels(rows, axis, view=shown.view, before=before)} if len(rows) else {}


def pseudo_label_quality_panel(shown: ShownRun) -> Content:
    """Precision and recall of the pseudo-labels that the run makes in every step, or of a labelling, by class."""
    rows = shown.of_steps
    if not len(rows):
        return _quality_of_labelling(shown)
    lines, bars = shown.axis(LINES), shown.axis(BARS)
    note = (
        "Precision: the share of a class's pseudo-labels that are correct. Recall: the share of its unlabeled images "
        "with a correct pseudo-label. Only pseudo-labels confident enough to be learned count."
    )
    latest = rows_where(rows, epoch=last_epoch(rows))
    return render_note(note, legend=head_to_tail(lines, are_lines=True)), {
        "pseudo_label_quality": pseudo_label_quality(rows, lines, view=shown.view),
        "pseudo_label_classes": pseudo_label_classes(latest, bars, view=shown.view),
    }


def _quality_of_labelling(shown: ShownRun) -> Content:
    """Of the last labelling by the run's classifier, if the truth is known."""
    rows = latest_round(shown.read("pseudo_labels", shown.run))
    if not len(rows) or rows["correct_count"].null_count:
        return "", {}
    scores = scores_of_labels(rows)
    right, labelled = (pc.sum(rows[name]).as_py() for name in ("correct_count", "pseudo_label_count"))
    note = (
        f"Of {labelled:,} pseudo-labels that this run's classifier made, {100 * right / labelled:.1f} % are right. "
        "Precision: the share of a class's pseudo-labels that are correct. Recall: the share of its unlabeled images "
        "with a correct pseudo-label."
    )
    figure = pseudo_label_classes(scores, shown.axis(BARS), view=shown.view)
    return render_note(note), {"pseudo_label_classes": figure}


def predictions_panel(shown: ShownRun) -> Content:
    """What the run's checkpoint predicts in a stream."""
    rows = shown.read("predictions", shown.run)
    if not len(rows):
        return render_note("No stream is predicted by this run's checkpoint: longtail predict --stream does that."), {}
    stream, num_streams = latest_stream(rows), len(rows["stream"].unique())
    legend = [
        ("mean confidence", NEUTRAL, "solid"), ("novel images", RUN_COLOURS[2], "dash"),
        ("estimated share", RUN_COLOURS[1], ""),
    ]  # fmt: skip
    return render_note(window_note(stream, num_streams=num_streams), legend=legend), {
        "prediction_shares": prediction_shares(latest_window(stream), shown.axis(BARS), view=shown.view),
        "prediction_windows": prediction_windows(stream, view=shown.view),
    }
