"""The table of all runs: which of them are found, in which order, in which groups, with which columns.

Bounded in size, however many runs there are: a page of PAGE_ROWS of them, and at most MAX_COLUMNS columns.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from longtail.streaming.dashboard.configurations import (
    SEED,
    SOURCE_OPTIONS,
    differing,
    option_texts,
    options_in,
    shown_text,
    without_seed,
)
from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.phases import kind_of_run
from longtail.streaming.dashboard.selection import MAX_COLUMNS, Selection
from longtail.streaming.dashboard.table_rows import Row
from longtail.streaming.dashboard.titles import (
    configuration_titles,
    method_title,
    names_of_sources,
    run_titles,
    source_titles,
)
from longtail.streaming.dashboard.values import mean_text, score_text
from longtail.streaming.events.schema import FINISHED
from longtail.streaming.tables.descriptions import RunDescription
from longtail.streaming.tables.reading import rows_where
from longtail.streaming.tables.schemas import SPLITS

PAGE_ROWS = 100
_DEFAULT_OPTIONS = 7
"""Options that are shown unless the reader chooses."""
FACTS = {
    "status": "status", "epoch": "epoch", "started_at": "started", "method": "method", "tags": "tags", "note": "note",
    "name": "name of the run",
}  # fmt: skip
SCORES = {
    "balanced_accuracy": "balanced", "best_balanced_accuracy": "best balanced", "accuracy": "accuracy",
    "many_shot_accuracy": "many", "medium_shot_accuracy": "medium", "few_shot_accuracy": "few",
    "head_tail_gap": "head-tail gap", "label_bias": "label bias", "calibration_gap": "calibration gap", "loss": "loss",
    "positive_rank": "rank of the same image", "images_per_second": "images/s",
}  # fmt: skip
"""Columns of `epochs`."""
SEVERAL_DATA_SETS = "several data sets"
"""In place of the mean of a group."""
_OF_ANY_TASK = frozenset({"accuracy", "loss", "positive_rank", "images_per_second"})
"""Scores that say something of a pre-training, too."""
GROUPINGS = {
    "": "none",
    "dataset": "data set",
    "method": "method",
    "tags": "experiment (tag)",
    "configuration": "seeds",
}


@dataclass(frozen=True)
class Column:
    """A column that can be shown.

    kind: fact, score or option
    differs: an option that is not the same in all runs that were found
    """

    name: str
    title: str
    kind: str
    differs: bool = False


@dataclass(frozen=True)
class Cell:
    """differs: whether it is an option that most of the runs have another value of; seconds: a time, None for others"""

    text: str
    differs: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class TableRow:
    """A run, or the heading of a group of runs.

    runs: its name, or those of all runs of the group
    """

    title: str
    runs: tuple[str, ...]
    cells: list[Cell]
    status: str = ""
    description: RunDescription = RunDescription()
    is_group: bool = False


@dataclass(frozen=True)
class RunTable:
    """A page of the table.

    num_runs, num_found: all runs, and those that were found
    page, num_pages: counted from 1
    columns: those that are shown; choices: all, with the options that differ first
    split: of the scores, None without any
    unknown: columns of the selection that no run has
    """

    rows: list[TableRow]
    columns: list[Column]
    choices: list[Column]
    num_runs: int
    num_found: int
    num_hidden: int
    page: int
    num_pages: int
    split: str | None
    splits: list[str]
    unknown: list[str]


def run_table(runs: Sequence[Row], latest: pa.Table, selection: Selection, notes: RunNotes) -> RunTable:
    """The table of these runs, found, sorted and grouped as selected.

    runs: rows of `runs`, the newest first
    latest: rows of `epochs` at the latest epoch of each run and split
    """
    splits = [split for split in SPLITS if split in set(latest["split"].unique().to_pylist())]
    split = selection.split if selection.split in splits else next(iter(splits), None)
    listed = [row for row in runs if selection.hidden or not notes.description(row["run"]).hidden]
    content = _Content(listed, rows_where(latest, split=split) if split else latest.slice(0, 0), notes)
    found = [row for row in listed if content.matches(row, selection.find)]
    choices = _choices(found)
    columns = _shown_columns(choices, selection)
    ordered = content.ordered(found, selection.sort)
    groups = content.grouped(ordered, selection.by)
    num_pages = max(1, -(-len(found) // PAGE_ROWS))
    page = min(selection.page, num_pages)
    usual = {
        column.name: content.usual(found, column.name) for column in columns if column.differs and column.name != SEED
    }
    rows: list[TableRow] = []
    position, first, last = 0, (page - 1) * PAGE_ROWS, page * PAGE_ROWS
    for title, members in groups:
        on_page = members[max(first - position, 0) : max(last - position, 0)]
        position += len(members)
        if not on_page:
            continue
        if selection.by:
            rows.append(content.group_row(title, members, columns))
        rows += [content.row(member, columns, usual) for member in on_page]
    return RunTable(
        rows=rows,
        columns=columns,
        choices=choices,
        num_runs=len(listed),
        num_found=len(found),
        num_hidden=sum(notes.description(row["run"]).hidden for row in runs),
        page=page,
        num_pages=num_pages,
        split=split,
        splits=splits,
        unknown=_unknown(listed, selection),
    )


class _Content:
    """What the columns say of each run."""

    def __init__(self, runs: Sequence[Row], scores: pa.Table, notes: RunNotes) -> None:
        self._runs, self._notes = runs, notes
        self._scores = {row["run"]: row for row in scores.select(["run", *SCORES]).to_pylist()}

    @cached_property
    def _titles(self) -> dict[str, str]:
        return run_titles(self._runs)

    @cached_property
    def _sources(self) -> Mapping[str, str]:
        return source_titles(self._runs)

    def title(self, row: Row) -> str:
        return self._notes.description(row["run"]).display_name or self._titles[row["run"]]

    def matches(self, row: Row, text: str) -> bool:
        """Whether a run has all words of a text: an option as name=value, any other in its names, note and tags."""
        words = text.casefold().split()
        if not words:
            return True
        description = self._notes.description(row["run"])
        searched = (row["run"], row["status"], self._titles[row["run"]], description.display_name, description.note,
                *description.tags)  # fmt: skip
        everything = "\n".join(searched).casefold()
        return all(word in (_settings(row["configuration"]) if "=" in word else everything) for word in words)

    def value(self, row: Row, column: str) -> Any:
        """What a run is sorted by: None where it has nothing."""
        if column in SCORES:
            if column not in _OF_ANY_TASK and not kind_of_run(row["phase"]).has_classes:
                return None
            return self._scores.get(row["run"], {}).get(column)
        if column in _FACT_VALUES:
            return _FACT_VALUES[column](row, self._notes)
        if column == "title":
            return self.title(row)
        configuration = row["configuration"]
        named = names_of_sources(configuration, self._sources) if column in SOURCE_OPTIONS else {}
        return named.get(column) or option_texts(configuration).get(column)

    def ordered(self, rows: list[Row], sort: str) -> list[Row]:
        """By a column; -NAME for the reverse. Runs without a value come last, equal ones stay as they are."""
        if not sort:
            return rows
        column, falls = sort.removeprefix("-"), sort.startswith("-")
        with_value = [(key, row) for row in rows if (key := _sort_key(self.value(row, column))) is not None]
        with_value.sort(key=lambda pair: pair[0], reverse=falls)
        without = [row for row in rows if _sort_key(self.value(row, column)) is None]
        return [row for _, row in with_value] + without

    def grouped(self, rows: list[Row], by: str) -> list[tuple[str, list[Row]]]:
        """Groups in the order of their first runs; a run of several tags is in the group of all of them together."""
        if not by:
            return [("", rows)]
        groups: dict[Any, list[Row]] = {}
        for row in rows:
            groups.setdefault(self._group(row, by), []).append(row)
        if by == "configuration":
            titles = configuration_titles(self._runs, self._runs)
            return [(titles[members[0]["run"]], members) for members in groups.values()]
        return [(key or "–", members) for key, members in groups.items()]

    def _group(self, row: Row, by: str) -> Any:
        if by == "configuration":
            return row["phase"], without_seed(row["configuration"])
        value = self.value(row, by)
        return None if value is None else shown_text(str(value))

    def usual(self, rows: list[Row], option: str) -> str | None:
        """The value that most runs have."""
        return Counter(self.value(row, option) for row in rows).most_common(1)[0][0]

    def row(self, row: Row, columns: Sequence[Column], usual: Mapping[str, str | None]) -> TableRow:
        return TableRow(
            title=self.title(row),
            runs=(row["run"],),
            cells=[self._cell(row, column, usual) for column in columns],
            status=row["status"],
            description=self._notes.description(row["run"]),
        )

    def group_row(self, title: str, members: list[Row], columns: Sequence[Column]) -> TableRow:
        """Mean and standard deviation of the scores of the finished members, and the options that all share.

        Scores on several data sets have no mean that says anything, and none is shown.
        """
        cells = []
        finished = [row for row in members if row["status"] == FINISHED] or members
        for column in columns:
            if column.kind == "score":
                with_score = [row for row in finished if self.value(row, column.name) is not None]
                is_of_one = len({_dataset(row["configuration"]) for row in with_score}) < 2
                scores = [self.value(row, column.name) for row in with_score]
                cells.append(Cell(mean_text(scores, column.name) if is_of_one else SEVERAL_DATA_SETS))
            else:
                values = [self.value(row, column.name) for row in members]
                is_shared = column.kind == "option" and len(set(values)) == 1
                cells.append(Cell(shown_text(values[0] or "") if is_shared else ""))
        runs = tuple(row["run"] for row in members)
        return TableRow(title=title, runs=runs, cells=cells, is_group=True)

    def _cell(self, row: Row, column: Column, usual: Mapping[str, str | None]) -> Cell:
        value = self.value(row, column.name)
        if column.kind == "score":
            return Cell(score_text(value, column.name))
        if column.name == "started_at":
            return Cell("–" if value is None else "", seconds=value)
        if column.name == "epoch":
            return Cell(f"{row['epoch'] or 0}/{row['num_epochs'] or 0}")
        return Cell("–" if value is None else shown_text(str(value)), value != usual.get(column.name, value))


def _choices(found: Sequence[Row]) -> list[Column]:
    """All columns that there are: facts, scores, options that differ, and the other options."""
    configurations = [row["configuration"] for row in found]
    different = differing(configurations)
    names = {name for configuration in set(configurations) for name in option_texts(configuration)}
    return [
        *(Column(name, title, "fact") for name, title in FACTS.items()),
        *(Column(name, title, "score") for name, title in SCORES.items()),
        *(Column(name, shown_text(name), "option", differs=True) for name in different if name not in _TAKEN),
        *(Column(name, shown_text(name), "option") for name in sorted(names - set(different)) if name not in _TAKEN),
    ]


def _unknown(listed: Sequence[Row], selection: Selection) -> list[str]:
    """What the selection groups by, sorts by or shows, and is no column of any run, as an address may say."""
    wanted = {selection.by, selection.sort.removeprefix("-"), *selection.columns} - {"", *_TAKEN}
    known = {name for configuration in {row["configuration"] for row in listed} for name in option_texts(configuration)}
    return sorted(map(shown_text, wanted - known)) if listed else []


def _shown_columns(choices: Sequence[Column], selection: Selection) -> list[Column]:
    by_name = {column.name: column for column in choices}
    if selection.columns:
        return [by_name[name] for name in selection.columns if name in by_name][:MAX_COLUMNS]
    different = [column for column in choices if column.differs]
    shown = different[:_DEFAULT_OPTIONS]
    if len(different) > len(shown) and different[-1].name == SEED:
        shown = [*shown[:-1], different[-1]]
    scores = [by_name[name] for name in ("balanced_accuracy", "few_shot_accuracy")]
    return [by_name["status"], by_name["epoch"], *scores, *shown, by_name["started_at"]]


def _dataset(configuration: str | None) -> tuple[str | None, str | None]:
    texts = option_texts(configuration)
    return texts.get("dataset"), texts.get("path")


def _settings(configuration: str | None) -> frozenset[str]:
    """name=value of all options of a run, in small letters."""
    return frozenset(f"{name}={text}".casefold() for name, text in option_texts(configuration).items())


def _sort_key(value: Any) -> tuple[int, float, str] | None:
    """Numbers by size, before texts by letters."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except ValueError:
        return 1, 0.0, str(value).casefold()
    return (0, number, "") if number == number else None


_FACT_VALUES: dict[str, Callable[[Row, RunNotes], Any]] = {
    "status": lambda row, notes: row["status"],
    "epoch": lambda row, notes: row["epoch"],
    "started_at": lambda row, notes: row["started_at"],
    "method": lambda row, notes: method_title(row["phase"], options_in(row["configuration"])),
    "tags": lambda row, notes: ", ".join(notes.description(row["run"]).tags),
    "note": lambda row, notes: notes.description(row["run"]).note,
    "name": lambda row, notes: row["run"],
}
_TAKEN = frozenset({*FACTS, *SCORES, "title", "configuration"})
"""Names that are no options here; `method` of a run's options is part of its method."""
