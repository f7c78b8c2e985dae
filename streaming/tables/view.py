"""The newest of the result tables, as whoever shows them wants it: plain rows. No Spark here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.streaming.tables.store import latest_epochs, list_runs, read_table, rows_where

Row = dict[str, Any]


@dataclass(frozen=True)
class RunView:
    """One run at its latest epoch.

    state: its row of `runs`; classes, summary: its rows of `class_epochs` and `epochs` on one split (summary None
    before the first epoch); alerts: on all splits
    """

    state: Row
    classes: list[Row]
    summary: Row | None
    alerts: list[Row]

    @property
    def run(self) -> str:
        return self.state["run"]


def newest_runs(tables_dir: Path, *, split: str, name_part: str | None = None, limit: int) -> tuple[list[RunView], int]:
    """The runs heard of last, newest first, at most `limit`; and how many there are. Of those whose name has the part.

    A run counts from its first epoch on the split.
    """
    states = [row for row in read_table(tables_dir, "runs").to_pylist() if name_part is None or name_part in row["run"]]
    states.sort(key=lambda row: row["updated_at"], reverse=True)
    views: list[RunView] = []
    for state in states:
        if len(views) == limit:
            break
        view = run_view(tables_dir, state, split=split)
        if view.summary is not None:
            views.append(view)
    return views, len(states)


def run_view(tables_dir: Path, state: Row, *, split: str) -> RunView:
    """state: the run's row of `runs`"""
    run = state["run"]
    classes = latest_epochs(rows_where(read_table(tables_dir, "class_epochs", run), split=split)).to_pylist()
    summary = latest_epochs(rows_where(read_table(tables_dir, "epochs", run), split=split)).to_pylist()
    return RunView(
        state=state,
        classes=sorted(classes, key=lambda row: row["class_id"]),
        summary=summary[0] if summary else None,
        alerts=read_table(tables_dir, "alerts", run).to_pylist(),
    )


class LiveView:
    """The tables from a notebook: each a pandas DataFrame of this moment.

    view = LiveView(tables_dir)
    view.table("epochs", run=view.runs()[-1])
    """

    def __init__(self, tables_dir: Path) -> None:
        self._tables_dir = tables_dir

    def runs(self) -> list[str]:
        """Names, the one heard of last at the end."""
        rows = read_table(self._tables_dir, "runs").to_pylist()
        return [row["run"] for row in sorted(rows, key=lambda row: row["updated_at"])] or list_runs(self._tables_dir)

    def table(self, name: str, run: str | None = None, *, latest: bool = False, **equal: Any) -> Any:
        """A table (streaming/tables/store.py) of one run or all; latest: only the last epoch; equal: split="test"."""
        table = rows_where(read_table(self._tables_dir, name, run), **equal)
        return (latest_epochs(table) if latest else table).to_pandas()
