"""From the result tables and a selection to all that the page shows: words as HTML, charts as figures.

The page has fixed places, each with an id; a state of the page says what stands
in which. The browser (page.js) asks for the state again and again and puts in
what has changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from longtail.conf.vocabulary import UNLABELED
from longtail.streaming.dashboard import facts
from longtail.streaming.dashboard.class_axis import ClassAxis, class_axis
from longtail.streaming.dashboard.class_figures import (
    accuracy_lines,
    accuracy_map,
    confusion_matrix,
    label_bias,
    pseudo_label_quality,
    pseudo_labels,
    smoothing_window,
)
from longtail.streaming.dashboard.run_figures import class_changes, group_lines, score_of_runs
from longtail.streaming.dashboard.selection import GROUPS, Selection
from longtail.streaming.dashboard.style import GROUP_COLOURS, NEUTRAL, RUN_COLOURS
from longtail.streaming.tables.reading import latest_epochs

ReadTable = Callable[[str, str | None], pa.Table]
"""read(table's name, run or None): a result table, or its rows of one run."""

MAX_RUNS_LISTED = 200
_MAP_ROWS, _LINES, _BARS, _MATRIX_ROWS = 100, 12, 40, 50

_templates = Environment(
    loader=PackageLoader("longtail.streaming.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(groups=GROUPS, group_colours=GROUP_COLOURS, neutral=NEUTRAL)


@dataclass
class PageState:
    """title: of the browser's tab; html: by the id of a place, what stands there; figures: by name, the chart, or None
    where there is nothing to draw"""

    title: str = "Longtail"
    html: dict[str, str] = field(default_factory=dict)
    figures: dict[str, go.Figure | None] = field(default_factory=dict)


@dataclass(frozen=True)
class RunView:
    """One run and split, as the panels need it.

    rows: its class_epochs; latest: those of the newest epoch; name: changes with whatever the charts are of
    """

    run: str
    split: str
    rows: pa.Table
    latest: pa.Table
    selection: Selection
    name: str

    @property
    def epoch(self) -> int:
        return facts.last_epoch(self.rows)

    def axis(self, max_rows: int) -> ClassAxis:
        return class_axis(self.latest, max_rows=max_rows, group=self.selection.group, name_part=self.selection.classes)


PANELS = {
    "accuracy_map": "Accuracy of each class, epoch by epoch",
    "accuracy_lines": "Accuracy from head to tail",
    "group_lines": "Many, medium and few shots",
    "label_bias": "Label bias",
    "confusion_matrix": "Confusion",
    "pseudo_labels": "Pseudo-labels",
    "pseudo_label_quality": "Pseudo-labels over the epochs: right and found",
    "comparison": "Runs at the same epoch",
}
_FIGURES = [*(name for name in PANELS if name != "comparison"), "compared_balanced", "compared_few", "class_changes"]


def whole_page(state: PageState) -> str:
    """The HTML document, with what is there already in its places; the charts come with the first state."""
    return _render("page.html", state=state, panels=PANELS)


def page_state(read: ReadTable, selection: Selection) -> PageState:
    """All that the page shows of the tables as they are now."""
    runs, epochs, alerts = (read(name, None) for name in ("runs", "epochs", "alerts"))
    state = PageState(figures=dict.fromkeys(_FIGURES))
    listed = facts.newest_first(runs)
    # Only a name that is in the tables goes on from here: what the address says reaches no file.
    known = {row["run"]: row for row in listed}
    run = selection.run if selection.run is not None else next(iter(known), None)
    latest = latest_epochs(epochs)
    cards = [facts.run_card(row, latest, alerts, split=selection.split) for row in listed[:MAX_RUNS_LISTED]]
    state.html["runs"] = _render(
        "runs.html", cards=cards, shown=run, selection=selection, num_more=len(listed) - len(cards)
    )
    if run not in known:
        state.html["overview"] = _render("no_run.html", run=run, selection=selection)
        return state
    splits = facts.splits_of(latest, run)
    split = selection.split if selection.split in splits else next(iter(splits), None)
    of_split = facts.of_split(epochs, split) if split else epochs.slice(0, 0)
    card = facts.run_card(known[run], latest, alerts, split=split)
    state.title = f"{card.title} – Longtail"
    state.html["overview"] = _render(
        "overview.html",
        card=card,
        split=split,
        splits=splits,
        selection=selection,
        step=facts.latest_step(read("steps", run), after_epoch=card.epoch) if card.status == "running" else None,
        scores=facts.key_figures(facts.of_run(of_split, run)),
        alerts=facts.of_run(alerts, run).to_pylist(),
    )
    if split is None:
        return state
    rows = facts.of_split(read("class_epochs", run), split)
    view = RunView(
        run=run,
        split=split,
        rows=rows,
        latest=facts.at_epoch(rows, facts.last_epoch(rows)),
        selection=selection,
        name=f"{run} {split} {selection.group} {selection.classes}",
    )
    if not len(view.axis(1)):
        words = f"No class of this run is {selection.group}-shot" if selection.group != "all" else "No class"
        note = f"{words} and has “{selection.classes}” in its name." if selection.classes else f"{words}."
        state.html["note-accuracy_map"] = _note(note)
        return state
    _accuracy_panels(state, view, facts.of_run(of_split, run))
    _prediction_panels(state, view, read)
    _comparison_panel(state, view, of_split, read, known)
    return state


def _accuracy_panels(state: PageState, view: RunView, epochs: pa.Table) -> None:
    axis = view.axis(_MAP_ROWS)
    state.figures["accuracy_map"] = accuracy_map(view.rows, axis, view=view.name)
    rows = (
        f"{len(axis.class_ids):,} classes in {len(axis)} bands of neighbours, mean of each"
        if axis.is_banded
        else "A row a class"
    )
    state.html["note-accuracy_map"] = _note(
        f"{rows}; the most labelled images on top, the fewest at the bottom, their number at the left."
    )
    axis = view.axis(_LINES)
    state.figures["accuracy_lines"] = accuracy_lines(view.rows, axis, view=view.name)
    notes = []
    if axis.is_banded:
        notes.append(f"A line is the mean of about {len(axis.class_ids) // len(axis)} classes of like size.")
    if (window := smoothing_window(len(epochs))) > 1:
        notes.append(f"A point is the mean of the last {window} epochs.")
    state.html["note-accuracy_lines"] = _note(" ".join(notes), legend=_head_to_tail(axis))
    state.figures["group_lines"] = group_lines(epochs, view=view.name)
    state.html["note-group_lines"] = _note(
        "Mean accuracy of the classes of each group.",
        legend=[*((f"{group}-shot", colour) for group, colour in GROUP_COLOURS.items()), ("all classes", NEUTRAL)],
    )


def _prediction_panels(state: PageState, view: RunView, read: ReadTable) -> None:
    axis = view.axis(_BARS)
    state.figures["label_bias"] = label_bias(view.latest, axis, view=view.name)
    state.html["note-label_bias"] = _note(
        f"Epoch {view.epoch}: how much of the {view.split} set is predicted as each class (bar), and how much of it "
        f"is that class (line).{' Mean of each band.' if axis.is_banded else ''}"
    )
    confusion = facts.of_split(read("confusion", view.run), view.split)
    axis = view.axis(_MATRIX_ROWS)
    if len(confusion):
        state.figures["confusion_matrix"] = confusion_matrix(confusion, axis, view=view.name)
    group = view.selection.group if view.selection.group != "all" else _rarest_group(view.latest)
    state.html["note-confusion_matrix"] = _render(
        "confusion.html",
        there=bool(len(confusion)),
        split=view.split,
        epoch=facts.last_epoch(confusion),
        banded=axis.is_banded,
        group=group,
        flows=facts.largest_confusions(confusion, view.latest, group=group, most=5),
    )
    _pseudo_label_panel(state, view, read)
    _pseudo_label_quality_panel(state, view, read)


def _pseudo_label_panel(state: PageState, view: RunView, read: ReadTable) -> None:
    """What this run labelled; of one that labelled nothing, the pseudo-labels that it trains on."""
    labelled = facts.latest_round(read("pseudo_labels", view.run))
    before = facts.round_before(labelled, read) if len(labelled) else None
    trained_on = facts.pseudo_labels_in_training(view.latest)
    axis = view.axis(_BARS)
    shown = labelled if len(labelled) else trained_on
    if len(shown):
        state.figures["pseudo_labels"] = pseudo_labels(shown, axis, view=view.name, before=before)
    state.html["note-pseudo_labels"] = _render(
        "pseudo_labels.html",
        labelled=bool(len(labelled)),
        trained_on=bool(len(trained_on)),
        banded=axis.is_banded,
        has_round_before=before is not None,
        unlabeled=facts.latest_round(read("unlabeled_estimates", view.run)).to_pylist(),
    )


def _pseudo_label_quality_panel(state: PageState, view: RunView, read: ReadTable) -> None:
    rows = facts.of_split(read("class_epochs", view.run), UNLABELED)
    if not len(rows):
        state.html["note-pseudo_label_quality"] = _note(
            "This run makes no pseudo-labels while it learns, or nobody knows the truth of its unlabeled images."
        )
        return
    axis = view.axis(_LINES)
    state.figures["pseudo_label_quality"] = pseudo_label_quality(rows, axis, view=view.name)
    state.html["note-pseudo_label_quality"] = _note(
        "Left: the share of a class's pseudo-labels that are right. Right: the share of its unlabeled images that got "
        "the right one. Only those sure enough to be learned count.",
        legend=_head_to_tail(axis),
    )


def _rarest_group(latest: pa.Table) -> str:
    there = set(latest["shot_group"].to_pylist())
    return next(group for group in reversed(GROUPS) if group in there)


def _comparison_panel(
    state: PageState, view: RunView, epochs: pa.Table, read: ReadTable, known: dict[str, facts.Row]
) -> None:
    """epochs: of all runs, rows of the split that is shown"""
    wanted = [run for run in view.selection.compare if run in known and run != view.run]
    rows = {run: facts.of_split(read("class_epochs", run), view.split) for run in wanted}
    names = _names(view.latest)
    alike = [
        run
        for run in wanted
        if len(rows[run]) and _names(facts.at_epoch(rows[run], facts.last_epoch(rows[run]))) == names
    ]
    chosen = [view.run, *alike]
    # "The same epoch": the last that all of them have reached.
    common = set.intersection(*(set(facts.of_run(epochs, run)["epoch"].to_pylist()) for run in chosen))
    epoch = max(common, default=None)
    if alike and epoch is not None:
        for name, score in (("compared_balanced", "balanced_accuracy"), ("compared_few", "few_shot_accuracy")):
            state.figures[name] = score_of_runs(epochs, chosen, score, view=f"{view.split} {chosen}")
        state.figures["class_changes"] = class_changes(
            facts.at_epoch(view.rows, epoch),
            {run: facts.at_epoch(rows[run], epoch) for run in alike},
            view.axis(_BARS),
            view=f"{view.name} {chosen}",
        )
    state.html["note-comparison"] = _render(
        "comparison.html",
        rows=facts.compared(epochs, chosen, epoch=epoch) if alike and epoch is not None else [],
        colours=RUN_COLOURS,
        epoch=epoch,
        split=view.split,
        left_out=[run for run in wanted if run not in alike],
        num_others=len(known) - 1,
    )


def _names(classes: pa.Table) -> dict[int, str]:
    return dict(zip(classes["class_id"].to_pylist(), classes["class_name"].to_pylist(), strict=True))


def _head_to_tail(axis: ClassAxis) -> list[tuple[str, str]]:
    """Texts and colours of a legend: each class; of bands the first, one in the middle and the last."""
    if not axis.is_banded:
        return list(zip(axis.names, axis.colours, strict=True))
    rows = {0: "head: ", len(axis) // 2: "", len(axis) - 1: "tail: "}
    return [(f"{place}{axis.counts[row]} images", axis.colours[row]) for row, place in rows.items()]


def _note(text: str, *, legend: list[tuple[str, str]] | None = None) -> str:
    return _render("note.html", text=text, legend=legend or [])


def _render(template: str, **values: Any) -> str:
    return _templates.get_template(template).render(**values)
