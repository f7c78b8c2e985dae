"""Files of the driver for ranks that do not share its file system: they fetch what they need and send what they write.

The ranks connect to the address at which Spark's executors reach the driver, and show that they know a secret, which
they were given with their task. A request is a line of JSON, followed by a file's bytes if it sends one; so is a
reply. Names are NAME or NAME/FILE: a place that the driver offers, and a file below it.
"""

import hashlib
import hmac
import json
import os
import secrets
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.spark_jobs.cluster.rendezvous import LOOPBACK

PORT_SETTING = "spark.longtail.driver.filesPort"
HANDSHAKE_SECONDS = 30
LONGEST_LINE = 64 * 1024
PIECE_BYTES = 1024**2


@dataclass(frozen=True)
class ServerAddress:
    """Where the server of the driver's files is, and the secret that a rank must know."""

    host: str
    port: int
    token: str = field(repr=False)


class FileServer:
    """Context manager: serves the places while a stage runs.

    places: by name, files that ranks may read and write, and directories in which they may
    on_error: called when what a rank sent cannot be written; an exception that leaves the block then becomes that error
    """

    def __init__(self, spark: SparkSession, places: Mapping[str, Path], *, on_error: Callable[[], None]) -> None:
        settings = spark.sparkContext.getConf()
        self._host = settings.get("spark.driver.host", LOOPBACK)
        bound = settings.get("spark.driver.bindAddress", self._host)
        self._places, self._on_error = dict(places), on_error
        self._token = secrets.token_hex()
        self._error: Exception | None = None
        try:
            self._server = _Server((bound, int(settings.get(PORT_SETTING, "0"))), self._handler())
        except OSError as error:
            raise UserError(
                f"{PORT_SETTING}: cannot listen on {bound} ({error.strerror}): choose another port"
            ) from None

    @property
    def address(self) -> ServerAddress:
        """Where the ranks connect."""
        return ServerAddress(self._host, self._server.server_address[1], self._token)

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._error is not None and isinstance(error, Exception):
            raise self._error from error

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        serve, token = self._serve, self._token

        class Handler(socketserver.StreamRequestHandler):
            timeout = HANDSHAKE_SECONDS

            def handle(self) -> None:
                # Without a connection there is nobody to tell: a rank connects again, or its executor was lost.
                with suppress(ConnectionError, TimeoutError):
                    if self._knows_the_secret():
                        self.connection.settimeout(None)
                        serve(self.rfile, self.wfile)

            def _knows_the_secret(self) -> bool:
                challenge = secrets.token_hex()
                send_line(self.wfile, {"challenge": challenge})
                return hmac.compare_digest(str(read_line(self.rfile).get("answer")), answer_to(challenge, token))

        return Handler

    def _serve(self, incoming: BufferedIOBase, outgoing: BufferedIOBase) -> None:
        """Answer the requests of a connection until it ends."""
        while request := read_line(incoming):
            try:
                self._answer(request, incoming, outgoing)
            except ConnectionError:
                raise
            except (OSError, UserError) as error:
                if self._error is None:
                    self._error = error
                    self._on_error()
                send_line(outgoing, {"error": str(error)})
                return

    def _answer(self, request: dict[str, Any], incoming: BufferedIOBase, outgoing: BufferedIOBase) -> None:
        path = self._path(request["name"])
        match request["do"]:
            case "put":
                write_atomically(path, lambda temporary: _receive(temporary, incoming, request["size"]))
                send_line(outgoing, {"done": True})
            case "append":
                # As far as it was sent: repeated pieces, after a connection broke, replace themselves.
                with path.open("r+b") as file:
                    file.truncate(file.seek(request["offset"]))
                    copy_bytes(incoming, file, request["size"])
                send_line(outgoing, {"done": True})
            case "remove":
                path.unlink(missing_ok=True)
                send_line(outgoing, {"done": True})
            case "exists":
                send_line(outgoing, {"done": True, "exists": path.is_file()})
            case "get":
                _send(path, outgoing)

    def _path(self, name: str) -> Path:
        place, *rest = PurePosixPath(name).parts
        if ".." in rest or place not in self._places:
            raise UserError(f"a rank asked for {name}, which the driver does not offer")
        return self._places[place].joinpath(*rest)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    # A rank's connection may be open still, if its executor was lost.
    block_on_close = False
    request_queue_size = 1024


def answer_to(challenge: str, token: str) -> str:
    """What shows that one knows the token."""
    return hmac.new(token.encode(), challenge.encode(), hashlib.sha256).hexdigest()


def send_line(stream: BufferedIOBase, message: dict[str, Any]) -> None:
    """Send a message."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def read_line(stream: BufferedIOBase) -> dict[str, Any]:
    """The next message; an empty one if the connection has ended, or if it is none."""
    try:
        message = json.loads(stream.readline(LONGEST_LINE))
    except (OSError, ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def copy_bytes(source: BufferedIOBase, target: BufferedIOBase, size: int) -> None:
    """Copy exactly so many bytes. Raises ConnectionError if there are fewer."""
    while size:
        piece = source.read(min(size, PIECE_BYTES))
        if not piece:
            raise ConnectionError("the connection ended in the middle of a file")
        target.write(piece)
        size -= len(piece)


def _receive(path: Path, incoming: BufferedIOBase, size: int) -> None:
    with path.open("wb") as file:
        copy_bytes(incoming, file, size)


def _send(path: Path, outgoing: BufferedIOBase) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        send_line(outgoing, {"done": True, "missing": True})
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        send_line(outgoing, {"done": True, "size": size})
        copy_bytes(file, outgoing, size)
        outgoing.flush()
