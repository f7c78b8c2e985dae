"""The live page over result tables, in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtail.streaming.dashboard.actions import Act
from longtail.streaming.dashboard.server import address, dashboard_page, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from tests.browser import Page, browser


@contextmanager
def page_of(tables_dir: Path, act: Act | None = None) -> Iterator[Page]:
    """The page over tables that are there."""
    tables = TableReader(tables_dir)
    listening = listening_socket("127.0.0.1", 0)
    app = dashboard_page(tables.read, tables.version, host="127.0.0.1", notes=tables.notes, act=act)
    with (
        serving(app, listening),
        browser(address(listening)) as page,
    ):
        yield page
