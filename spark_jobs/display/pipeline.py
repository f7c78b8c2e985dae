"""What a person sees of `pipeline`: steps, a progress bar, and the live per-class table.

On a terminal it redraws in place, the jobs' own output scrolling above it;
elsewhere it prints a line a step and a line an epoch.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import get_console
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.display.tables import alert_lines, per_class_table, summary_line
from longtail.streaming.tables.view import RunSnapshot, newest_runs


class PipelineScreen:
    """A context manager; `step` marks what is going on, `update` shows what the live query's tables say."""

    def __init__(self, steps: list[str], tables_dir: Path) -> None:
        self._console = get_console()
        self._tables_dir = tables_dir
        self._view: RunSnapshot | None = None
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
        """Everything in the block belongs to this step."""
        assert name in self._steps, name
        self._current = (name, time.monotonic())
        if not self._console.is_terminal:
            self._console.print(f"== {name}")
        yield
        self._seconds[name] = time.monotonic() - self._current[1]
        self._current = None

    def update(self, runs: list[str]) -> None:
        """The tables of these runs have changed; called from the live query's thread."""
        for view in newest_runs(self._tables_dir, split=TEST, limit=1)[0]:
            self._view = view
            if not self._console.is_terminal:
                self._print_new_epoch(view.summary)

    def _print_new_epoch(self, row: dict) -> None:
        if (row["run"], row["epoch"]) not in self._shown_epochs:
            self._shown_epochs.add((row["run"], row["epoch"]))
            self._console.print(f"live: {summary_line(row)}", soft_wrap=True)

    def _render(self) -> Group:
        parts: list = [self._step_table()]
        if (view := self._view) is not None:
            row = view.summary
            progress = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=row["num_epochs"], completed=row["epoch"], width=40)
            progress.add_row(row["phase"], bar, f"{row['epoch']}/{row['num_epochs']}")
            parts += [progress, per_class_table(view.classes), Text(summary_line(row))]
            parts += alert_lines(view.alerts, run=view.run)
        return Group(*parts)

    def _step_table(self) -> Text:
        line = Text()
        for name in self._steps:
            if name in self._seconds:
                line.append(f"{name} {self._seconds[name]:.0f}s  ", style="green")
            elif self._current and self._current[0] == name:
                line.append(f"{name} {time.monotonic() - self._current[1]:.0f}s  ", style="bold yellow")
            else:
                line.append(f"{name}  ", style="dim")
        return line
