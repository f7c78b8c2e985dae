"""The terminal output of `pipeline`: its steps, a progress bar and the live per-class table.

In a terminal it is redrawn in place, below the output of the steps; otherwise it is
one line per step and one per epoch.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import Row, alert_lines, per_class_table, summary_line
from longtail.streaming.dashboard.phases import kind_of_run
from longtail.streaming.tables.view import RunSnapshot, newest_runs


class PipelineScreen:
    """Context manager that shows the pipeline: `step` marks the current step, `update` reads the live tables."""

    def __init__(self, steps: list[str], tables_dir: Path) -> None:
        self._console = console()
        self._tables_dir = tables_dir
        self._snapshot: RunSnapshot | None = None
        self._steps = steps
        self._seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None
        self._shown_epochs: set[tuple[str, int]] = set()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)

    def __enter__(self) -> "PipelineScreen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block as this step."""
        assert name in self._steps, name
        self._current = (name, time.monotonic())
        if not self._console.is_terminal:
            self._console.print(f"== {name}")
        yield
        self._seconds[name] = time.monotonic() - self._current[1]
        self._current = None

    def update(self, runs: list[str]) -> None:
        """Show the newest run. Called by the live query, in its thread, when the tables of the runs have changed."""
        for snapshot in newest_runs(self._tables_dir, split=TEST, limit=1)[0]:
            self._snapshot = snapshot
            if not self._console.is_terminal:
                self._print_new_epoch(snapshot.summary)

    def _print_new_epoch(self, row: Row) -> None:
        if (row["run"], row["epoch"]) not in self._shown_epochs:
            self._shown_epochs.add((row["run"], row["epoch"]))
            self._console.print(f"live: {summary_line(row)}", soft_wrap=True)

    def _render(self) -> Group:
        parts: list[RenderableType] = [self._step_line()]
        if (snapshot := self._snapshot) is not None:
            row = snapshot.summary
            progress = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=row["num_epochs"], completed=row["epoch"], width=40)
            progress.add_row(row["phase"], bar, f"{row['epoch']}/{row['num_epochs']}")
            table = per_class_table(snapshot.classes, has_classes=kind_of_run(row["phase"]).has_classes)
            parts += [progress, table, Text(summary_line(row))]
            parts += alert_lines(snapshot.alerts, run=snapshot.run)
        return Group(*parts)

    def _step_line(self) -> Text:
        line = Text()
        for name in self._steps:
            if name in self._seconds:
                line.append(f"{name} {self._seconds[name]:.0f}s  ", style="green")
            elif self._current and self._current[0] == name:
                line.append(f"{name} {time.monotonic() - self._current[1]:.0f}s  ", style="bold yellow")
            else:
                line.append(f"{name}  ", style="dim")
        return line
