"""The selection of the page. It is stored in the page's address, so that reloads, bookmarks and links show the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from longtail.conf.vocabulary import SHOT_GROUPS

GROUPS = ("all", *SHOT_GROUPS)
ALL_RUNS = "runs"
"""The view of all runs; the other one, of one run, has no name."""
MAX_COMPARED = 100
MAX_COLUMNS = 40
_FLAGS = ("choose", "hidden", "log", "smooth")
TIME, STEP = "time", "step"


@dataclass(frozen=True)
class Selection:
    """What the page shows.

    run: None for the newest run; compare: runs to compare with it
    split: None for the first that exists of test, val and train
    over: what curves go over: TIME, STEP, or "" for epochs; log, smooth: the axis of the loss, and whether they are
        averaged
    group, classes: which classes are shown, by shot group and by a part of their name
    view: ALL_RUNS for the table of runs (run_table.py); the rest is about that:
    find: words that the listed runs have; sort: by this column, after a - from the highest; by: how they are grouped
    columns: those that are shown, by default those that tell the runs apart; choose: whether to show all to choose from
    hidden: whether hidden runs are listed; page: which part of the table, counted from 1
    """

    run: str | None = None
    compare: tuple[str, ...] = ()
    split: str | None = None
    group: str = "all"
    classes: str = ""
    over: str = ""
    log: bool = False
    smooth: bool = False
    view: str = ""
    find: str = ""
    sort: str = ""
    by: str = ""
    columns: tuple[str, ...] = ()
    choose: bool = False
    hidden: bool = False
    page: int = 1

    def link(self, **changes: Any) -> str:
        """The address of the page with some of the selection changed."""
        wanted = replace(self, **changes)
        values = {name: int(value) if isinstance(value, bool) else value for name, value in vars(wanted).items()}
        parameters = {name: value for name, value in values.items() if value != getattr(Selection, name)}
        return "?" + urlencode(parameters, doseq=True)

    def table_link(self) -> str:
        """The table of runs, in which the compared runs are marked."""
        marked = () if not self.compare or self.run is None else (self.run,)
        return self.link(view=ALL_RUNS, run=None, compare=(*marked, *self.compare)[:MAX_COMPARED])

    def sorted_by(self, column: str, *, falls_first: bool) -> str:
        """The address of the table sorted by a column; if it is already, the other way round."""
        falls = self.sort == column if column == self.sort.removeprefix("-") else falls_first
        return self.link(sort=f"-{column}" if falls else column, page=1)

    def with_column(self, column: str, shown: Sequence[str]) -> str:
        """The address of the table with a column added to the shown ones, or taken out."""
        others = tuple(name for name in shown if name != column)
        return self.link(columns=others if column in shown else (*shown, column))

    def without(self, runs: Sequence[str]) -> str:
        """The address without these compared runs."""
        return self.link(compare=tuple(run for run in self.compare if run not in runs))

    def toggled(self, run: str) -> tuple[str, ...]:
        """The compared runs with one run added or removed; beyond MAX_COMPARED the first is dropped."""
        if run in self.compare:
            return tuple(other for other in self.compare if other != run)
        return (*self.compare, run)[-MAX_COMPARED:]


def read_selection(parameters: Sequence[tuple[str, str]]) -> Selection:
    """The selection of an address; unknown or invalid parameters have no effect.

    parameters: names and values of the query, in order
    """
    last = {name: value for name, value in parameters if value}
    compared, columns = (
        tuple(dict.fromkeys(value for name, value in parameters if name == several and value))
        for several in ("compare", "columns")
    )
    group, page = last.get("group", "all"), last.get("page", "")
    return Selection(
        run=last.get("run"),
        compare=compared[:MAX_COMPARED],
        split=last.get("split"),
        group=group if group in GROUPS else "all",
        classes=last.get("classes", "")[:100],
        over=last["over"] if last.get("over") in (TIME, STEP) else "",
        view=ALL_RUNS if last.get("view") == ALL_RUNS else "",
        find=last.get("find", "")[:200],
        sort=last.get("sort", "")[:200],
        by=last.get("by", "")[:200],
        columns=columns[:MAX_COLUMNS],
        **{name: last.get(name) == "1" for name in _FLAGS},
        page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 and int(page) else 1,
    )
