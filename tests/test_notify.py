"""Alerts reach people: once, in a bounded time, and whatever the receiver does."""

import contextlib
import http.server
import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longtail.streaming.alerts import receivers
from longtail.streaming.alerts.notifier import MAX_ALERTS, SENT_FILE, Notifier, alert_id, message_of
from longtail.streaming.alerts.receivers import NotSent, receiver
from longtail.streaming.tables.manifest import RunManifest, write_run_manifest
from tests.refusals import refused

PATIENCE_SECONDS = 30


class WebServer:
    """A local server; answer is the status of its answers, None: it never ends one."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.answer: int | None = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.answer is None:
                    with contextlib.suppress(OSError):  # the client has gone
                        for _ in range(100):  # an answer that comes byte by byte
                            self.wfile.write(b"H")
                            time.sleep(0.1)
                    return
                outer.messages.append(json.loads(body))
                self.send_response(outer.answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/hunter2?token=hunter2"


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    threading.Thread(target=server.server.serve_forever, daemon=True).start()
    yield server
    server.server.shutdown()
    server.server.server_close()


def write_alerts(tables_dir: Path, run: str, *messages: str, rule: str = "class_collapsed") -> None:
    rows = [{"run": run, "split": "test", "epoch": 7, "rule": rule, "message": message} for message in messages]
    write_run_manifest(tables_dir, RunManifest(run=run, rows={"alerts": rows}))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def texts(web: WebServer) -> list[str]:
    return [message["text"] for message in web.messages]


def test_each_alert_is_told_once_over_restarts_too(web: WebServer, tmp_path: Path) -> None:
    write_alerts(tmp_path, "a", "accuracy of class cat fell to 3.1 %", "accuracy of class 2 fell to 0.0 %")
    notifier = Notifier(receiver(web.url), tmp_path, pause_seconds=0.01)
    notifier.update(["a"])
    wait_until(lambda: web.messages)
    # The next epoch says the same with other figures, and something new about another class and another rule.
    write_alerts(tmp_path, "a", "accuracy of class cat fell to 2.9 %", "accuracy of class 7 fell to 0.0 %")
    notifier.update(["a"])
    wait_until(lambda: len(web.messages) == 2)
    write_alerts(tmp_path, "b", "the loss is NaN", rule="nan_loss")
    notifier.update(["a", "b"])
    notifier.close(wait_seconds=PATIENCE_SECONDS)

    again = Notifier(receiver(web.url), tmp_path, pause_seconds=0.01)
    write_alerts(tmp_path, "b", "the loss is NaN at step 3", rule="nan_loss")
    again.update(["a", "b"])
    again.send([{"run": "b", "rule": "query own", "message": "tail below 10 %"}] * 2)
    again.close(wait_seconds=PATIENCE_SECONDS)
    assert texts(web) == [
        "a: accuracy of class cat fell to 3.1 % (class_collapsed)\n"
        "a: accuracy of class 2 fell to 0.0 % (class_collapsed)",
        "a: accuracy of class 7 fell to 0.0 % (class_collapsed)",
        "b: the loss is NaN (nan_loss)",
        "b: tail below 10 % (query own)",
    ]
    assert web.messages[2]["alerts"] == [
        {
            "id": alert_id({"run": "b", "split": "test", "rule": "nan_loss", "message": ""}), "run": "b",
            "split": "test", "epoch": 7, "rule": "nan_loss", "message": "the loss is NaN",
        }
    ]  # fmt: skip


def test_what_a_receiver_does_not_take_is_sent_when_it_does_and_said_once(
    web: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_alerts(tmp_path, "a", "the loss is NaN", rule="nan_loss")
    web.answer = 500
    notifier = Notifier(receiver(web.url), tmp_path, pause_seconds=0.01)
    notifier.update(["a"])
    wait_until(lambda: len(web.messages) >= 3)
    web.answer = 302  # not followed: the message would go where nobody has said
    seen = len(web.messages)
    wait_until(lambda: len(web.messages) > seen)
    web.answer = 200
    wait_until((tmp_path / SENT_FILE).exists)
    notifier.close(wait_seconds=PATIENCE_SECONDS)
    said = capsys.readouterr().err
    address = web.url.partition("/services")[0]
    assert said == f"alerts do not reach {address} (it answers 500); they will be sent when it takes them\n"
    assert set(texts(web)) == {"a: the loss is NaN (nan_loss)"}


def test_a_receiver_that_hangs_costs_a_bounded_time_and_no_update_waits(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "SEND_SECONDS", 0.5)
    mark = tmp_path / "mark"
    hanging = shlex.join(["sh", "-c", f"(sleep 3; touch {mark}) & cat > /dev/null; wait"])
    web.answer = None
    for target, reason in ((hanging, "it runs longer than 0.5 s"), (web.url, "no answer in 0.5 s")):
        began = time.monotonic()
        with pytest.raises(NotSent, match=reason):
            receiver(target).send({"text": "x"})
        assert time.monotonic() - began < 5
    write_alerts(tmp_path, "a", "the loss is NaN", rule="nan_loss")
    began = time.monotonic()
    notifier = Notifier(receiver(web.url), tmp_path)
    for _ in range(100):
        notifier.update(["a"])
    notifier.close(wait_seconds=0.2)
    assert time.monotonic() - began < 2
    time.sleep(max(0.0, 3.5 - (time.monotonic() - began)))
    assert not mark.exists(), "what the command has started is ended with it"


def test_a_command_gets_the_message_on_its_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    copy = shlex.join([sys.executable, "-c", f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"])
    receiver(copy).send({"text": "a: ü"})
    assert json.loads(out.read_text()) == {"text": "a: ü"}
    with pytest.raises(NotSent, match="exit status 3"):
        receiver("sh -c 'exit 3'").send({})


def test_a_message_has_a_bounded_length_and_no_control_characters() -> None:
    alert = {"run": "a", "split": "", "epoch": 1, "rule": "nan_loss", "message": "x\x1b[2J" * 5000}
    message = message_of({str(number): alert for number in range(1000)})
    assert len(message["alerts"]) == MAX_ALERTS and message["more"] == 1000 - MAX_ALERTS
    assert message["text"].endswith("\nand 980 more alerts") and "\x1b" not in message["text"]
    assert len(json.dumps(message)) < 50_000


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_command_here --x hunter2", "there is no command 'no_such_command_here'"),
        ("ftp://host/hunter2", "there is no command 'ftp://host/hunter2'"),
        ("sh -c 'hunter2", "the command cannot be split into words: No closing quotation"),
        ("", "there is no command ''"),
        ("env:NO_SUCH_URL", "the environment variable NO_SUCH_URL is not set"),
        ("http://", "the URL has no host"),
        ("https://h:x/hunter2", "the URL has no host"),
        ("https://h/hunter2 x", "the URL has no host"),
        ("https://u:hunter2@h/", "a URL with user and password is not supported"),
    ],
)
def test_what_is_neither_a_url_nor_a_command_is_refused(target: str, message: str) -> None:
    with refused() as messages:
        receiver(target)
    assert messages[0].startswith(f"--notify: {message}")
    assert "hunter2" not in messages[0] or target.startswith("ftp")


def test_a_receiver_that_is_not_there_is_named_without_its_path(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_alerts(tmp_path, "a", "the loss is NaN", rule="nan_loss")
    notifier = Notifier(receiver("http://127.0.0.1:9/hunter2"), tmp_path)
    notifier.update(["a"])
    notifier.close(wait_seconds=PATIENCE_SECONDS)
    said = capsys.readouterr().err
    assert said.startswith("alerts do not reach http://127.0.0.1:9 (Connection refused)") and "hunter2" not in said
