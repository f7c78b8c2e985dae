"""The live page leads from a run to the reports that have it, and serves those alone."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.spark_jobs.steps.run_reports import RunReports
from longtail.streaming.dashboard.server import dashboard_page, listening_socket, serving
from tests.test_dashboard_page import ONE_RUN, ask, reader_of


def write_report(directory: Path, *runs: str) -> None:
    directory.mkdir(parents=True)
    (directory / "report.html").write_text(f"<h1>{directory.name}</h1><script>alert(1)</script>")
    trials = pa.table({"run": pa.array(runs, pa.string()), "seed": [0] * len(runs)})
    pq.write_table(trials, directory / "trials.parquet")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    write_report(tmp_path / "margins", "base", "base", "other")
    write_report(tmp_path / "others", "other")
    (tmp_path / "index.html").write_text("")
    return tmp_path


@pytest.fixture
def server(reports: Path) -> Iterator[socket.socket]:
    listening = listening_socket("127.0.0.1", 0)
    page = dashboard_page(reader_of(ONE_RUN), lambda: "7", host="127.0.0.1", reports=RunReports(reports))
    with serving(page, listening):
        yield listening


def test_a_run_leads_to_its_reports(server: socket.socket) -> None:
    body = ask(server, "/")[2].decode()
    assert '<a href="reports/margins/report.html" target="_blank">margins</a>' in body and "reports/others" not in body
    status, headers, report = ask(server, "/reports/margins/report.html")
    assert status == 200 and report.startswith(b"<h1>margins</h1>")
    # Nothing of it is run: a report may come from anybody, and the page may change runs.
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and policy.endswith("sandbox allow-downloads") and "script" not in policy
    assert ask(server, "/reports/margins/images.html")[0] == 404, "it has none"
    status, headers, trials = ask(server, "/reports/margins/trials.parquet")  # the page links to it
    assert status == 200 and trials.startswith(b"PAR1")
    assert headers["Content-Disposition"] == 'attachment; filename="margins-trials.parquet"'


@pytest.mark.parametrize(
    "path",
    [
        "margins/other.parquet", "margins/../others/report.html", "../report.html", "..%2f/report.html",
        "%2e%2e/index.html", "none/report.html", "margins/", "index.html/report.html",
    ],
)  # fmt: skip
def test_no_part_of_an_address_becomes_a_path(server: socket.socket, path: str) -> None:
    assert ask(server, f"/reports/{path}")[0] == 404


def test_a_new_report_is_found_and_a_damaged_one_or_a_link_is_none(reports: Path) -> None:
    found = RunReports(reports)
    assert found.by_run() == {
        "base": {"margins": "reports/margins/report.html"},
        "other": {"margins": "reports/margins/report.html", "others": "reports/others/report.html"},
    }
    (reports / "others" / "trials.parquet").write_bytes(b"PAR1 and no more")
    os.utime(reports / "others" / "trials.parquet", (0, 0))
    (reports / "margins").rename(reports / "elsewhere")
    (reports / "margins").symlink_to(reports / "elsewhere")
    write_report(reports / "new", "base")
    assert found.by_run() == {
        "base": {"elsewhere": "reports/elsewhere/report.html", "new": "reports/new/report.html"},
        "other": {"elsewhere": "reports/elsewhere/report.html"},
    }
    assert found.content("margins", "report.html") is None
    (reports / "new" / "report.html").unlink()
    (reports / "new" / "report.html").symlink_to("/etc/passwd")
    assert found.content("new", "report.html") is None
    assert RunReports(reports / "missing").by_run() == {}
