"""A rank's side of the driver's files (spark_jobs/cluster/file_server.py)."""

import socket
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.file_server import ServerAddress, answer_to, copy_bytes, read_line, send_line

CONNECT_SECONDS = 20


class FileClient:
    """A connection to the driver's files, made when it is needed, and again after it broke.

    Methods raise OSError if the driver cannot be reached, and UserError if it cannot do what it is asked.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._connection: tuple[socket.socket, BufferedIOBase, BufferedIOBase] | None = None

    def send(self, name: str, file: BufferedIOBase, *, size: int, offset: int = 0) -> None:
        """Write the first `size` bytes of a file at the driver; with an offset, only those behind it."""
        file.seek(offset)
        kind = "append" if offset else "put"
        self._ask({"do": kind, "name": name, "offset": offset, "size": size - offset}, file)

    def remove(self, name: str) -> None:
        """Remove a file at the driver."""
        self._ask({"do": "remove", "name": name})

    def exists(self, name: str) -> bool:
        """Whether the driver sees a file."""
        return bool(self._ask({"do": "exists", "name": name})["exists"])

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file of the driver's to `path`; False if there is none."""
        reply = self._ask({"do": "get", "name": name})
        if "missing" in reply:
            return False
        assert self._connection is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            copy_bytes(self._connection[1], file, reply["size"])
        return True

    def close(self) -> None:
        """End the connection."""
        for part in reversed(self._connection or ()):
            with suppress(OSError):
                part.close()
        self._connection = None

    def _ask(self, request: dict[str, Any], file: BufferedIOBase | None = None) -> dict[str, Any]:
        self._connection = self._connection or self._connected()
        _, incoming, outgoing = self._connection
        try:
            send_line(outgoing, request)
            if file is not None:
                copy_bytes(file, outgoing, request["size"])
                outgoing.flush()
            reply = read_line(incoming)
        except OSError:
            self.close()
            raise
        if "done" not in reply:
            self.close()
            if "error" in reply:
                raise UserError(reply["error"])
            raise ConnectionError("the driver ended the connection")
        return reply

    def _connected(self) -> tuple[socket.socket, BufferedIOBase, BufferedIOBase]:
        address = self._address
        connection = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
        incoming, outgoing = connection.makefile("rb"), connection.makefile("wb")
        send_line(outgoing, {"answer": answer_to(str(read_line(incoming).get("challenge")), address.token)})
        connection.settimeout(None)
        return connection, incoming, outgoing
