"""Checkpoints are downloaded from the live page by those who may, and nothing else is."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from longtail.conf.arguments import resolve_options
from longtail.conf.base.locations import Location, location
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.steps.live_page import access_line, page_checkpoints
from longtail.spark_jobs.steps.run_checkpoints import checkpoints_of_runs
from longtail.streaming.dashboard.server import dashboard_page, listening_socket, serving
from tests.result_rows import class_rows, table
from tests.test_dashboard_page import ONE_RUN, ask, reader_of

WEIGHTS = bytes(range(256)) * 10_000  # more than two blocks, and more than what is sent compressed


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    for run in ("base", "unknown"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "ckpt.pth.tar").write_bytes(WEIGHTS)
    return tmp_path


@contextmanager
def page_of(runs_dir: Location | None, tables: dict[str, pa.Table] = ONE_RUN) -> Iterator[socket.socket]:
    listening = listening_socket("127.0.0.1", 0)
    checkpoint = checkpoints_of_runs(runs_dir) if runs_dir is not None else None
    page = dashboard_page(reader_of(tables), lambda: "7", host="127.0.0.1", checkpoint=checkpoint)
    with serving(page, listening):
        yield listening


def test_the_checkpoint_of_a_run_is_downloaded_as_it_is(runs_dir: Path) -> None:
    with page_of(runs_dir) as server:
        status, headers, content = ask(server, "/checkpoint?run=base&of=last", **{"Accept-Encoding": "gzip"})
        assert (status, content) == (200, WEIGHTS)
        assert headers["Content-Disposition"] == 'attachment; filename="base-ckpt.pth.tar"'
        assert headers["Content-Length"] == str(len(WEIGHTS)), "the browser tells how far it is"
        assert ask(server, "/checkpoint?run=base&of=best")[0] == 404
        (runs_dir / "base" / "ckpt.best.pth.tar").write_bytes(b"best")
        assert ask(server, "/checkpoint?run=base&of=best")[2] == b"best"


@pytest.mark.parametrize(
    "query",
    [
        "run=unknown&of=last", "run=../base&of=last", "run=base&of=../../unknown/ckpt.pth.tar",
        "run=base&of=options.json", "run=base", "of=last", "", "run=base%00&of=last", "run=&of=last",
    ],
)  # fmt: skip
def test_nothing_else_is(runs_dir: Path, query: str) -> None:
    (runs_dir / "base" / "options.json").write_text("{}")
    with page_of(runs_dir) as server:
        status, _, content = ask(server, f"/checkpoint?{query}")
        assert status == 404 and len(content) < 200


def test_a_link_a_pipe_and_a_directory_are_not_sent(runs_dir: Path) -> None:
    file = runs_dir / "base" / "ckpt.pth.tar"
    with page_of(runs_dir) as server:
        file.unlink()
        file.symlink_to("/etc/passwd")
        assert b"is a link, which may lead anywhere" in ask(server, "/checkpoint?run=base&of=last")[2]
        file.unlink()
        file.mkdir()
        status, _, text = ask(server, "/checkpoint?run=base&of=last")
        assert status == 404 and b"it is not a regular file" in text
        (runs_dir / "base").rename(runs_dir / "elsewhere")
        (runs_dir / "base").symlink_to(runs_dir / "elsewhere")
        assert b"is a link" in ask(server, "/checkpoint?run=base&of=last")[2]


def test_a_store_has_them_too() -> None:
    runs_dir = location("memory://page/runs")
    (runs_dir / "base" / "ckpt.pth.tar").write_bytes(WEIGHTS)
    with page_of(runs_dir) as server:
        assert ask(server, "/checkpoint?run=base&of=last")[2] == WEIGHTS
        status, _, text = ask(server, "/checkpoint?run=base&of=best")
        assert status == 404 and b"there is no memory://page/runs/base/ckpt.best.pth.tar" in text


def test_the_page_names_each_checkpoint_and_leads_to_it_where_it_gives_it_away(runs_dir: Path) -> None:
    run = table("runs", {"configuration": json.dumps({"runs_dir": "s3a://mine/runs"})})
    with page_of(None, {**ONE_RUN, "runs": run}) as server:
        page = ask(server, "/")[2].decode()
        assert "<code>s3a://mine/runs/base/ckpt.pth.tar</code>" in page and "ckpt.best" not in page
        assert "checkpoint?run=" not in page and ask(server, "/checkpoint?run=base&of=last")[0] == 403
    validated = {
        "epochs": table("epochs", {}, {"split": "val"}),
        "class_epochs": pa.concat_tables([class_rows({0: [0.5]}), class_rows({0: [0.5]}, split="val")]),
    }
    with page_of(runs_dir, {**ONE_RUN, "runs": run, **validated}) as server:
        page = ask(server, "/")[2].decode()
    assert "<code>s3a://mine/runs/base/ckpt.best.pth.tar</code>" in page
    for of in ("last", "best"):
        assert page.count(f'href="checkpoint?run=base&amp;of={of}"') == 1


@pytest.mark.parametrize(
    ("options", "is_private", "may"),
    [
        ({}, True, True), ({}, False, False), ({"downloads_by": "everybody"}, False, True),
        ({"downloads_by": "nobody"}, True, False), ({"changes_by": "everybody"}, False, False),
    ],
)  # fmt: skip
def test_who_may_download(options: dict[str, Any], is_private: bool, may: bool) -> None:
    given = resolve_options(DashboardOptions, options)
    checkpoint = page_checkpoints(given, given.runs_dir, is_private=is_private)
    assert (checkpoint is not None) == may
    assert ("download checkpoints" in access_line(None, checkpoint)) == may
    assert page_checkpoints(given, None, is_private=is_private) is None, "nobody has said where the runs are"
