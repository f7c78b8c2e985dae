"""The live tables of running trainings as DataFrames, the query that keeps them up to date, and the live page."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from matplotlib.figure import Figure

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.spellings import by_option_name
from longtail.conf.options.live import DashboardOptions, MonitorOptions
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.api.figures import shown
from longtail.spark_jobs.api.known_options import with_known_options
from longtail.spark_jobs.steps.live_page import page_checkpoints
from longtail.spark_jobs.steps.live_query import LiveQueries, live_inputs, start_query
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.spark_jobs.steps.run_images import images_of_runs
from longtail.spark_jobs.steps.run_logs import logs_of_runs
from longtail.spark_jobs.steps.run_reports import RunReports
from longtail.streaming.dashboard.server import address, dashboard_page, is_private, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.tables.manifest import TABLES_DIRECTORY
from longtail.streaming.tables.plots import accuracy_figure
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES


class Live:
    """The live tables of a directory of runs; start() keeps them up to date, and so does `longtail monitor`.

    tables_dir: where the tables are; runs_dir: where the runs are
    """

    def __init__(self, options: MonitorOptions, tables_dir: Path) -> None:
        self._options = options
        self.tables_dir = tables_dir
        self.runs_dir = options.runs_dir
        self._queries: LiveQueries | None = None

    def table(self, name: str, run: str | None = None) -> pd.DataFrame:
        """A table of docs/analytics.md, such as `class_epochs`; of one run, or of all. Empty before there are events.

        Raises UserError for a name that is no table.
        """
        if name not in TABLES:
            raise UserError(
                f"there is no live table {name!r}: choose one of {', '.join(TABLES)}{did_you_mean(name, TABLES)}"
            )
        return read_result_table(self.tables_dir, name, run).to_pandas()

    def plot(self, run: str | None = None, *, split: str = TEST) -> Figure | None:
        """Accuracy of a run's shot groups over its epochs; of the latest run by default. None before its first epoch.

        split: `test`, `val` or `train`
        """
        epochs = self.table("epochs", run)
        epochs = epochs[epochs["split"] == split]
        if not len(epochs):
            return None
        latest = epochs.sort_values("emitted_at")["run"].iloc[-1]
        return shown(accuracy_figure(epochs[epochs["run"] == latest]))

    @property
    def is_running(self) -> bool:
        """Whether the query that start() has started runs."""
        return self._queries is not None and self._queries.live.isActive

    def start(self) -> Self:
        """Start the query, which updates the tables until stop(); in a `with` block, until its end.

        Raises UserError if another process writes these tables.
        """
        if not self.is_running:
            self._queries = self._started(self._options.trigger)
        return self

    def update(self) -> Self:
        """Process the events that there are, and return when the tables have them."""
        if self._queries is not None and self.is_running:
            self._queries.live.processAllAvailable()
        else:
            self._started(None).finish()
        return self

    def stop(self) -> None:
        """End the query after what it is processing. The tables stay."""
        if self._queries is not None and self.is_running:
            for query in self._queries.queries:
                query.stop()
            self._queries.live.stop()
        self._queries = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self, trigger: str | None) -> LiveQueries:
        options = self._options
        sinks = update_sinks(self.tables_dir, tensorboard=options.tensorboard, as_delta=options.format == "delta")
        inputs = live_inputs(options)
        return start_query("live", options, inputs, tables_dir=self.tables_dir, trigger=trigger, on_update=sinks)


class Dashboard:
    """The live page, served by this process until close(), or until the end of a `with` block.

    url: its address on this machine
    """

    def __init__(self, options: DashboardOptions, tables_dir: Path, runs_dir: Location) -> None:
        tables = TableReader(tables_dir)
        listening = listening_socket(options.host, options.port)
        page = dashboard_page(
            tables.read, tables.version, host=options.host, notes=tables.notes, images=images_of_runs(runs_dir),
            log=logs_of_runs(runs_dir), reports=RunReports(options.reports_dir),
            checkpoint=page_checkpoints(options, runs_dir, is_private=is_private(listening)),
        )  # fmt: skip
        self._open = ExitStack()
        self._open.enter_context(serving(page, listening))
        self.url = address(listening)

    def close(self) -> None:
        """End the server."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def live(runs_dir: str | Path = "runs", **options: Any) -> Live:
    """The live tables of a directory of runs, which need not be there yet.

    options: those of `longtail monitor`, but `once` and `run`, which only its terminal has
    """
    if shown := sorted({"once", "run"} & options.keys()):
        raise UserError(f"{shown[0]} is an option of the terminal: use table(name, run=...) and update()")
    resolved = resolve_options(MonitorOptions, {**by_option_name(MonitorOptions, options), "runs_dir": runs_dir})
    tables_dir = resolved.output_dir or resolved.runs_dir / TABLES_DIRECTORY
    if not isinstance(tables_dir, Path):
        raise UserError(
            f"{tables_dir} is in a store, where `longtail monitor` keeps tables: give output_dir=, a local directory"
        )
    if resolved.source == "files":
        resolved.runs_dir.mkdir(parents=True, exist_ok=True)
    return Live(resolved, tables_dir)


@with_known_options
def dashboard(
    tables: Live | str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    reports_dir: str | Path = "results/reports",
    downloads_by: str = "this_machine",
) -> Dashboard:
    """Serve the live page of tables that live() or `longtail monitor` keeps up to date.

    tables: of live(), or their directory
    host, port, reports_dir, downloads_by: as of `longtail dashboard`; port 0 is any free one

    Raises UserError if the address cannot be used.
    """
    directory = tables.tables_dir if isinstance(tables, Live) else Path(tables)
    runs_dir = tables.runs_dir if isinstance(tables, Live) else directory.absolute().parent  # analytics/ is in it
    given = {"host": host, "port": port, "reports_dir": reports_dir, "downloads_by": downloads_by}
    return Dashboard(resolve_options(DashboardOptions, given), directory, runs_dir)
