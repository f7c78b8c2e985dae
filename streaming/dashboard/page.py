"""The state of the page for a selection: texts as HTML and charts as figures, from the result tables.

The page has fixed elements, each with an id; a state says what each of them contains. The browser (page.js) requests
the state repeatedly and updates the elements that have changed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import plotly.graph_objects as go
import pyarrow as pa

from longtail.conf.vocabulary import VAL
from longtail.streaming.dashboard.commands import checkpoints_of, command_of
from longtail.streaming.dashboard.configurations import options_in, sources_of
from longtail.streaming.dashboard.notes import NO_NOTES, RunNotes
from longtail.streaming.dashboard.panels import CHARTS, PANELS, Panel
from longtail.streaming.dashboard.phases import kind_of_run
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.run_table import GROUPINGS, run_table
from longtail.streaming.dashboard.selection import ALL_RUNS, MAX_COMPARED, Selection
from longtail.streaming.dashboard.shown_run import ShownRun
from longtail.streaming.dashboard.table_rows import (
    ReadTable,
    chosen_by_default,
    labels_of_steps,
    last_epoch,
    latest_step,
    newest_first,
    splits_of,
)
from longtail.streaming.dashboard.titles import run_titles
from longtail.streaming.dashboard.values import (
    RunCard,
    bad_lines_by_run,
    key_figures,
    pseudo_label_figures,
    run_card,
    scores_by_run,
    shown_alerts,
)
from longtail.streaming.tables.query_rows import NO_RUN
from longtail.streaming.tables.reading import rows_where
from longtail.streaming.tables.schemas import LATEST_EPOCHS, QUARANTINE, RUNNING

MAX_RUNS_LISTED = 200


@dataclass
class PageState:
    """The contents of the page.

    title: of the browser tab
    view: of the selection
    html: contents of elements, by id
    figures: charts by name; None where there is nothing to draw
    """

    title: str = "Longtail"
    view: str = ""
    html: dict[str, str] = field(default_factory=dict)
    figures: dict[str, go.Figure | None] = field(default_factory=dict)


def whole_page(state: PageState, *, token: str | None = None) -> str:
    """The HTML document with the texts of a state; the charts follow with the first state that the browser requests.

    token: for changes of runs; None for a page that changes nothing
    """
    return render("page.html", state=state, panels=PANELS, token=token)


def page_state(
    read: ReadTable, selection: Selection, notes: RunNotes = NO_NOTES, *, panels: Mapping[str, Panel] = PANELS
) -> PageState:
    """The state of the page for the tables as they are now. A hidden run is shown only if it is selected.

    panels: those to fill; none is much faster
    """
    runs, latest, alerts = (read(name, None) for name in ("runs", LATEST_EPOCHS, "alerts"))
    state = PageState(view=selection.view, figures=dict.fromkeys(CHARTS))
    state.html["views"] = render("views.html", selection=selection, num_runs=len(runs))
    if selection.view == ALL_RUNS:
        return _with_table(state, runs, latest, alerts, selection, notes)
    # Only names that are in the tables are used below: no text from an address becomes the name of a file.
    ordered = [(row["run"], row) for row in newest_first(runs)]
    rows = {run: row for run, row in ordered if run == selection.run or not notes.description(run).hidden}
    run = selection.run if selection.run is not None else chosen_by_default(rows.values())
    num_alerts = Counter(alerts["run"].to_pylist())
    bad_lines = bad_lines_by_run(read(QUARANTINE, None), notes.deleted_at)
    listed = list(rows)[:MAX_RUNS_LISTED]
    titles = run_titles(rows.values())
    scores = scores_by_run(latest, [*listed, *([run] if run is not None and run in rows else [])])

    def card_of(name: str, split: str | None) -> RunCard:
        return run_card(
            rows[name],
            scores[name],
            title=titles[name],
            split=split,
            description=notes.description(name),
            num_alerts=num_alerts[name],
            num_bad_lines=bad_lines[name],
        )

    state.html["runs"] = render(
        "runs.html",
        cards=[card_of(name, selection.split) for name in listed],
        shown=run,
        selection=selection,
        num_more=len(rows) - len(listed),
        alerts=shown_alerts(rows_where(alerts, run=NO_RUN)),
        progress=notes.progress,
        num_bad_lines=sum(number for name, number in bad_lines.items() if name not in rows),
    )
    if run is None or run not in rows:
        state.html["overview"] = render("no_run.html", run=run, selection=selection, progress=notes.progress)
        return state
    splits = splits_of(latest, run)
    split = selection.split if selection.split in splits else next(iter(splits), None)
    epochs = read("epochs", run)
    of_split = rows_where(epochs, split=split) if split else epochs.slice(0, 0)
    card = card_of(run, split)
    state.title = f"{card.title} – Longtail"
    kind, options = kind_of_run(rows[run]["phase"]), options_in(rows[run]["configuration"])
    of_steps = labels_of_steps(read, rows[run])
    state.html["overview"] = render(
        "overview.html",
        card=card,
        split=split,
        splits=splits,
        selection=selection,
        step=latest_step(read("steps", run), after_epoch=card.epoch) if card.status == RUNNING else None,
        scores=[
            *key_figures(of_split, kind.figures),
            *pseudo_label_figures(rows_where(of_steps, epoch=last_epoch(of_steps))),
        ],
        has_classes=kind.has_classes and split is not None,
        sources=[(name, source, titles.get(source, source)) for name, source in sources_of(options, rows)],
        command=command_of(rows[run]["phase"], rows[run]["configuration"]),
        checkpoints=checkpoints_of(run, rows[run]["configuration"], has_best=VAL in splits) if card.epoch else {},
        gives_checkpoints=notes.gives_checkpoints,
        has_log=notes.has_logs,
        reports=notes.reports.get(run, {}),
        alerts=shown_alerts(rows_where(alerts, run=run)),
        damage=notes.damage.get(run),
    )
    if split is None or not panels:
        return state
    class_rows = rows_where(read("class_epochs", run), split=split)
    shown = ShownRun(
        run=run,
        split=split,
        rows=class_rows,
        latest=rows_where(class_rows, epoch=last_epoch(class_rows)),
        epochs=of_split,
        run_rows=rows,
        selection=selection if kind.has_classes else replace(selection, group="all", classes=""),
        of_steps=of_steps,
        read=read,
        notes=notes,
    )
    if not len(shown.axis(1)):
        waits = notes.progress and not len(class_rows)
        text = f"The classes of this run are still to be read: {notes.progress}." if waits else _no_class(selection)
        state.html["note-accuracy_map"] = render_note(text)
        return state
    for name, panel in panels.items():
        if not kind.shows(name):
            continue
        state.html[f"note-{name}"], figures = panel.show(shown)
        state.figures.update(figures)
        if figures and panel.table:
            of_split = "" if name == "curves" else split
            state.html[f"note-{name}"] += render("download.html", run=run, table=panel.table, split=of_split)
    return state


def _with_table(
    state: PageState, runs: pa.Table, latest: pa.Table, alerts: pa.Table, selection: Selection, notes: RunNotes
) -> PageState:
    """The state of the table of all runs, instead of one run."""
    state.title = "Runs – Longtail"
    state.html["runs"] = render(
        "about_all.html", alerts=shown_alerts(rows_where(alerts, run=NO_RUN)), progress=notes.progress
    )
    known = set(runs["run"].to_pylist())
    state.html["table"] = render(
        "run_table.html",
        table=run_table(newest_first(runs), latest, selection, notes),
        selection=selection,
        groupings=GROUPINGS,
        marked=[run for run in selection.compare if run in known],
        max_compared=MAX_COMPARED,
    )
    return state


def _no_class(selection: Selection) -> str:
    text = f"No class of this run is {selection.group}-shot" if selection.group != "all" else "No class"
    return f"{text} and has “{selection.classes}” in its name." if selection.classes else f"{text}."
