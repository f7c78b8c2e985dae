"""Downloads arrive whole or leave nothing and say why in one line."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from longtail.data.sources.download import download
from tests.refusals import refused


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would be asked even for this machine's own addresses."""
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def server(status: int, body: bytes, *, announced: int) -> Iterator[str]:
    """A web server on this machine that gives one answer to all; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/file"
        finally:
            http.shutdown()
            thread.join()


def test_a_download_arrives_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    with server(200, body, announced=len(body)) as url:
        download(url, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == body
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("status", "announced", "reason"),
    [(404, 4, "Not Found"), (500, 4, "Internal Server Error"), (200, 1000, "it ended after 4 of 1000 bytes")],
)
def test_a_failed_download_leaves_nothing_and_says_why(
    tmp_path: Path, status: int, announced: int, reason: str
) -> None:
    with server(status, b"part", announced=announced) as url, refused() as messages:
        download(url, tmp_path / "file")
    assert messages[0] == f"{url} cannot be downloaded ({reason})"
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_in_http_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"no http\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with refused() as messages:
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/file", tmp_path / "file")
        thread.join()
    assert "cannot be downloaded" in messages[0]
    assert list(tmp_path.iterdir()) == []


def test_a_download_from_where_nobody_listens_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        # Nobody listens on the discard port of this machine.
        download("http://127.0.0.1:9/file", tmp_path / "file")
    assert "Connection refused" in messages[0]
