"""The comparison of runs: what differs between them, their scores at one epoch, and their curves.

Runs that differ in nothing but their seed are an arm: it has a mean and a spread in the place of single values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pyarrow as pa

from longtail.streaming.dashboard.configurations import SEED, differing, option_texts, shown_text, without_seed
from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.phases import KeyFigure
from longtail.streaming.dashboard.table_rows import Row
from longtail.streaming.dashboard.titles import (
    base_title,
    configuration_titles,
    names_of_sources,
    source_titles,
    what_differs,
)
from longtail.streaming.dashboard.values import difference_text, is_visible, mean_text
from longtail.streaming.tables.reading import rows_where

MAX_OPTIONS = 8
"""Options in the table of what differs."""


@dataclass(frozen=True)
class ComparedArm:
    """Runs that differ in nothing but their seed.

    title: the user's name of its only run, otherwise what differs from the other arms
    runs: in the order in which they were chosen
    options: by name, those that differ between the arms; empty texts for those that it does not have
    """

    title: str
    runs: tuple[str, ...]
    seeds: str
    options: Mapping[str, str]


def compared_arms(rows: Sequence[Row], notes: RunNotes, known: Iterable[Row] = ()) -> list[ComparedArm]:
    """The arms of runs, in the order of their first runs.

    rows: of `runs`
    known: those of all runs, from which these may start
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        same = without_seed(row["configuration"])
        # Of runs without options nobody knows what they have in common.
        groups.setdefault((row["phase"], same) if same else row["run"], []).append(row)
    firsts = [members[0] for members in groups.values()]
    configurations = [row["configuration"] for row in firsts]
    names = [name for name in differing(configurations) if name != SEED][:MAX_OPTIONS]
    known = list(known)
    titles, sources = _titles(list(groups.values()), notes, known), source_titles(known)
    return [
        ComparedArm(
            title=title,
            runs=tuple(row["run"] for row in members),
            seeds=", ".join(option_texts(row["configuration"]).get(SEED, "–") for row in members),
            options={name: shown_text(_said(members[0], sources).get(name, "–")) for name in names},
        )
        for members, title in zip(groups.values(), titles, strict=True)
    ]


def arm_scores(
    epochs: pa.Table, arms: Sequence[ComparedArm], figures: Sequence[KeyFigure], *, epoch: int
) -> list[list[dict[str, Any]]]:
    """For each arm and score, its mean with the standard deviation as text, and the difference of the mean from that of
    the first arm (in points for shares) with whether it is better; None for that arm itself.

    epochs: rows of `epochs` of one split
    """
    rows = {row["run"]: row for row in rows_where(epochs, epoch=epoch).to_pylist()}
    values = [
        [[value for run in arm.runs if (value := rows[run][figure.column]) is not None] for figure in figures]
        for arm in arms
    ]
    return [
        [
            {
                "text": mean_text(own, figure.column) or "–",
                **_difference(figure, mean(own) - mean(first) if index and own and first else None),
            }
            for figure, own, first in zip(figures, of_arm, values[0], strict=True)
        ]
        for index, of_arm in enumerate(values)
    ]


def _difference(figure: KeyFigure, value: float | None) -> dict[str, Any]:
    if value is None:
        return {"difference": None, "better": None}
    if not is_visible(value):
        value = 0.0  # and not "-0.0"
    better = None if value == 0 else (value > 0) == bool(figure.rises)
    return {"difference": difference_text(value, figure.unit), "better": better}


def _said(row: Row, sources: Mapping[str, str]) -> Mapping[str, str]:
    """The options of a run, with what the runs are called from which it starts."""
    configuration = row["configuration"]
    return {**option_texts(configuration), **names_of_sources(configuration, sources)}


def _titles(arms: Sequence[Sequence[Row]], notes: RunNotes, known: Sequence[Row]) -> list[str]:
    """Different ones: they are the names of lines."""
    firsts = [members[0] for members in arms]
    whole = configuration_titles(firsts, known)
    configurations = (row["configuration"] for row in firsts)
    parts = what_differs(configurations, but_seed=True, sources=source_titles(known))
    is_one_task = len({base_title(row["phase"], row["configuration"]) for row in firsts}) == 1
    titles = []
    for members, part in zip(arms, parts, strict=True):
        named = notes.description(members[0]["run"]).display_name if len(members) == 1 else ""
        titles.append(named or (part if is_one_task and part else whole[members[0]["run"]]))
    shared = Counter(titles)
    return [
        title if shared[title] == 1 else f"{title} · {row['run']}" for title, row in zip(titles, firsts, strict=True)
    ]


def other_seeds(run: str, rows: Mapping[str, Row]) -> tuple[str, ...]:
    """The other runs of the configuration of a run; empty if it tells no options."""
    row = rows[run]
    same = without_seed(row["configuration"])
    if not same:
        return ()
    others = (other for other in rows.values() if other["run"] != run and other["phase"] == row["phase"])
    return tuple(other["run"] for other in others if without_seed(other["configuration"]) == same)
