"""The latest result tables for displays. No Spark."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.streaming.tables.descriptions import RunDescription, read_table_descriptions
from longtail.streaming.tables.manifest import DamagedTables, list_runs
from longtail.streaming.tables.reading import latest_epochs, read_result_table, rows_where
from longtail.streaming.tables.schemas import SPLITS

Row = dict[str, Any]


@dataclass(frozen=True)
class RunSnapshot:
    """One run at its latest epoch.

    state: its row of `runs`
    classes, summary: its rows of `class_epochs`, by class, and of `epochs`, both of the same split
    alerts: its rows of `alerts`, on all splits
    """

    state: Row
    classes: list[Row]
    summary: Row
    alerts: list[Row]

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.state["run"]

    @property
    def title(self) -> str:
        """The user's name for the run with its own behind, or its own alone."""
        shown = self.state.get("display_name")
        return f"{shown} ({self.run})" if shown else self.run


def newest_runs(
    tables_dir: Path, *, split: str, name_part: str | None = None, limit: int
) -> tuple[list[RunSnapshot], int]:
    """The runs with the most recent events, newest first, at most `limit`; and the number of all runs.

    A run is included after its first epoch.

    split: of its scores; of a run without it, as a contrastive pre-training is, the first of SPLITS that it has
    name_part: only runs whose name, or display name, contains this; hidden runs are left out

    Runs whose tables are damaged are left out: the job that keeps them writes them again.
    """
    descriptions = read_table_descriptions(tables_dir)
    states = []
    for row in _states(tables_dir):
        description = descriptions.get(row["run"], RunDescription())
        is_named = any((name_part or "") in name for name in (row["run"], description.display_name))
        if is_named and not description.hidden:
            states.append({**row, "display_name": description.display_name})
    states.sort(key=lambda row: row["updated_at"], reverse=True)
    snapshots: list[RunSnapshot] = []
    for state in states:
        if len(snapshots) == limit:
            break
        with contextlib.suppress(DamagedTables):
            if snapshot := run_snapshot(tables_dir, state, split=split):
                snapshots.append(snapshot)
    return snapshots, len(states)


def _states(tables_dir: Path) -> list[Row]:
    """The rows of `runs` of all runs whose manifests can be read."""
    rows: list[Row] = []
    for run in list_runs(tables_dir):
        with contextlib.suppress(DamagedTables):
            rows += read_result_table(tables_dir, "runs", run).to_pylist()
    return rows


def run_snapshot(tables_dir: Path, state: Row, *, split: str) -> RunSnapshot | None:
    """The run with this row of `runs`; None before its first epoch. split: as for newest_runs"""
    run = state["run"]
    epochs = read_result_table(tables_dir, "epochs", run)
    present = set(epochs["split"].unique().to_pylist())
    shown = next((one for one in (split, *SPLITS) if one in present), None)
    if shown is None:
        return None
    summary = latest_epochs(rows_where(epochs, split=shown)).to_pylist()
    classes = latest_epochs(rows_where(read_result_table(tables_dir, "class_epochs", run), split=shown)).to_pylist()
    return RunSnapshot(
        state=state,
        classes=sorted(classes, key=lambda row: row["class_id"]),
        summary=summary[0],
        alerts=read_result_table(tables_dir, "alerts", run).to_pylist(),
    )
