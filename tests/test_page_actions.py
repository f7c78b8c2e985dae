"""Runs are changed on the live page by its own readers alone, by the means of `longtail runs`."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.steps.live_page import access_line, page_actions
from longtail.streaming.dashboard.actions import MOST_BYTES, Act
from longtail.streaming.dashboard.server import dashboard_page, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.descriptions import read_description
from longtail.streaming.runs.trash import trash_entries
from longtail.streaming.tables.manifest import list_runs
from longtail.training.run_directory import exclusive_run
from tests.result_rows import write_base
from tests.test_dashboard_page import ONE_RUN, ask, reader_of
from tests.test_runs import write_run

HIDE = {"action": "hide", "run": "base", "value": None}
Done = list[tuple[str, str, str | None]]


@contextmanager
def page_of(act: Act | None, tables: TableReader | None = None) -> Iterator[socket.socket]:
    listening = listening_socket("127.0.0.1", 0)
    read = tables.read if tables else reader_of(ONE_RUN)
    with serving(dashboard_page(read, lambda: "7", host="127.0.0.1", act=act), listening):
        yield listening


@pytest.fixture(scope="module")
def done() -> Done:
    """What the page of `server` has done."""
    return []


@pytest.fixture(scope="module")
def server(done: Done) -> Iterator[socket.socket]:
    def act(action: str, run: str, value: str | None) -> None:
        if value == "impossible":
            raise UserError("this is impossible:\nbecause")
        done.append((action, run, value))

    with page_of(act) as listening:
        yield listening


def token_of(server: socket.socket) -> str:
    (token,) = re.findall(r'<meta name="longtail-token" content="([\w-]{40,})">', ask(server, "/")[2].decode())
    return token


def post(server: socket.socket, content: Any = HIDE, *, method: str = "POST", **changes: str | None) -> tuple[int, str]:
    """Status and text of the answer to a request of the page; changes: of its headers, None for without."""
    host = f"127.0.0.1:{server.getsockname()[1]}"
    headers = {"Origin": f"http://{host}", "X-Longtail-Token": token_of(server), "Content-Type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request(method, "/act", body, {k: v for k, v in {**headers, **named}.items() if v is not None})
    reply = connection.getresponse()
    try:
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_the_page_s_own_request_is_done(server: socket.socket, done: Done) -> None:
    done.clear()
    assert post(server) == (204, "")
    assert (
        post(server, {"action": "note", "run": "base", "value": "<b>"}, Content_Type="application/json; charset=utf-8")[
            0
        ]
        == 204
    )
    assert done == [("hide", "base", None), ("note", "base", "<b>")]
    assert post(server, {"action": "note", "run": "base", "value": "impossible"}) == (
        409,
        "this is impossible: because",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None}, {"Origin": "null"}, {"Origin": "https://example.org"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"}, {"Origin": ""}, {"Origin": "file://"}, {"X_Longtail_Token": None},
        {"X_Longtail_Token": ""}, {"X_Longtail_Token": "x" * 43}, {"X_Longtail_Token": "é"},
        {"Origin": None, "Referer": "http://127.0.0.1/"},
    ],
)  # fmt: skip
def test_a_request_of_another_page_or_without_the_token_does_nothing(
    server: socket.socket, done: Done, headers: dict[str, Any]
) -> None:
    done.clear()
    assert post(server, **headers)[0] == 403
    assert done == []


def test_only_a_post_of_json_changes_runs(server: socket.socket, done: Done) -> None:
    done.clear()
    assert [post(server, method=method)[0] for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")] == [405] * 5
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None):
        assert post(server, Content_Type=kind)[0] == 415
    assert done == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff", 400), (b"[" * 10_000, 400), ([HIDE], 400), ({}, 400), (None, 400),
        ({**HIDE, "more": 1}, 400), ({**HIDE, "value": "x"}, 400), ({**HIDE, "action": "purge"}, 400),
        ({**HIDE, "action": "import"}, 400), ({**HIDE, "action": ["hide"]}, 400), ({**HIDE, "action": "note"}, 400),
        ({**HIDE, "run": None}, 400), ({**HIDE, "run": ["base"]}, 400), ({**HIDE, "run": "other"}, 404),
        ({**HIDE, "run": "*"}, 404), ({**HIDE, "run": "b[a]se"}, 404), ({**HIDE, "run": "../base"}, 404),
        ({**HIDE, "run": "/etc/passwd"}, 404), ({**HIDE, "run": ""}, 404), ({**HIDE, "run": "base\0"}, 404),
        ({**HIDE, "run": "--purge"}, 404), ({**HIDE, "run": "x" * 5000}, 404), ({**HIDE, "run": "base\n"}, 404),
        (b" " * (MOST_BYTES + 1), 413),
    ],
)  # fmt: skip
def test_a_hostile_request_does_nothing(server: socket.socket, done: Done, content: Any, status: int) -> None:
    done.clear()
    assert post(server, content)[0] == status and done == []


def test_a_page_that_changes_nothing_has_no_token_and_no_address_for_it(server: socket.socket) -> None:
    token = token_of(server)
    assert token not in ask(server, "/state")[2].decode() and "data-changes" in ask(server, "/")[2].decode()
    with page_of(None) as listening:
        page = ask(listening, "/")[2].decode()
        assert "longtail-token" not in page and "actions.js" not in page and '<dialog id="edit"' not in page
        assert "data-changes" not in page
        assert ask(listening, "/act", method="POST")[0] == 404


@pytest.mark.parametrize(
    ("options", "is_private", "may"),
    [
        ({}, True, True), ({}, False, False), ({"changes_by": "everybody"}, False, True),
        ({"changes_by": "nobody"}, True, False), ({"tables_dir": "runs/analytics"}, True, True),
        ({"tables_dir": "elsewhere"}, True, False), ({"tables_dir": "elsewhere", "runs_dir": "runs"}, True, True),
    ],
)  # fmt: skip
def test_who_may_change_runs(
    options: dict[str, Any], is_private: bool, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in ("runs/analytics", "elsewhere"):
        (tmp_path / directory).mkdir(parents=True)
    given = resolve_options(DashboardOptions, options)
    actions = page_actions(given, given.tables_dir or given.runs_dir / "dashboard", is_private=is_private)
    assert (actions is not None) == may
    assert ("delete runs" in access_line(actions, None)) == may


def test_runs_are_named_tagged_noted_hidden_and_deleted_as_by_longtail_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs_dir = tmp_path / "runs"
    write_run(runs_dir, "base")
    write_base(runs_dir / "analytics")
    tables = TableReader(runs_dir / "analytics")
    options = resolve_options(DashboardOptions, {"runs_dir": runs_dir})
    act = page_actions(options, runs_dir / "analytics", is_private=True)
    with page_of(act, tables) as server:
        for action, value in (("rename", "My <b> run"), ("tag", "tail, LDAM"), ("note", "first"), ("hide", None)):
            assert post(server, {"action": action, "run": "base", "value": value}) == (204, "")
        description = read_description(runs_dir, "base")
        assert (description.display_name, description.tags, description.note, description.hidden) == (
            "My <b> run", ("tail", "LDAM"), "first", True,
        )  # fmt: skip
        assert tables.notes().description("base") == description  # the page follows

        status, reason = post(server, {"action": "rename", "run": "base", "value": "two\nlines"})
        assert status == 409 and "control characters" in reason
        with exclusive_run(runs_dir / "base"):
            status, reason = post(server, {"action": "delete", "run": "base", "value": None})
            assert status == 409 and "another process is working on" in reason
        assert post(server, {"action": "delete", "run": "base", "value": None}) == (204, "")
        assert list_runs(runs_dir / "analytics") == [] and not (runs_dir / "base").exists()
        assert [entry.state for entry in trash_entries(runs_dir)] == ["deleted"]
        assert post(server, {"action": "delete", "run": "base", "value": None})[0] == 404
    assert "deleted: base" in capfd.readouterr().out  # the terminal says what was done
