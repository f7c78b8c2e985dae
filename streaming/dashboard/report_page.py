"""The reports of experiments that the page leads to, as it serves them: /reports/NAME/report.html.

A report may come from anybody, so the browser runs nothing of it and loads nothing for it.
"""

from collections.abc import Mapping
from typing import Protocol

ADDRESS = "/reports/{name}/{file}"
CONTENT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox allow-downloads"
)


class Reports(Protocol):
    """The reports that there are (spark_jobs/steps/run_reports.py)."""

    def by_run(self) -> Mapping[str, Mapping[str, str]]:
        """The names of the experiments that have a run, and the addresses of their reports on the page."""
        ...

    def content(self, name: str, file: str) -> bytes | None:
        """The content of a file of a report, its page or one that the page links to; None for anything else."""
        ...
