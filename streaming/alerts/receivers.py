"""Where alerts go: a web address that takes JSON, or a command. Each sending has a time limit. No Spark."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from longtail.conf.base.errors import UserError
from longtail.conf.base.secret_values import resolved
from longtail.conf.base.shown_text import hide

SEND_SECONDS = 10
"""A receiver that takes longer has failed."""


class NotSent(Exception):
    """A receiver did not take a message. Says why, without the secrets that an address may have."""


class Receiver:
    """Takes messages, JSON objects. name: what may be shown of it."""

    def __init__(self, name: str, send: Callable[[bytes], None]) -> None:
        self.name, self._send = name, send

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, or raise NotSent, within about SEND_SECONDS."""
        self._send(json.dumps(message).encode())


def receiver(target: str) -> Receiver:
    """The receiver that --notify names: a URL of http or https, or a command; or where it is kept (env:, file:).

    Raises UserError if it is neither.
    """
    target = resolved(target, option="--notify").strip()
    if target.partition(":")[0].lower() in ("http", "https"):
        return _web(target)
    try:
        command = shlex.split(target)
    except ValueError as error:
        raise UserError(f"--notify: the command cannot be split into words: {error}") from None
    if not command or shutil.which(command[0]) is None:
        first = command[0] if command else ""
        raise UserError(f"--notify: there is no command {first!r}; a URL of http or https, or a command was expected")
    return Receiver(f"the command {command[0]}", lambda message: _run(command, message))


def _web(url: str) -> Receiver:
    bad = UserError("--notify: the URL has no host, or characters that a URL cannot have")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise bad from None
    if not host or any(character.isspace() for character in url) or not url.isascii():
        raise bad
    if parts.username is not None:
        raise UserError("--notify: a URL with user and password is not supported: use a command, such as curl")
    name = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    hide(url.partition("://")[2].partition("/")[2])  # the rest may be a secret
    return Receiver(name, lambda message: _bounded(lambda: _post(url, message)))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message goes where the user said, and nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """No request at all: the answer is an HTTPError then."""


def _post(url: str, message: bytes) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "longtail"}
    request = urllib.request.Request(url, data=message, headers=headers, method="POST")  # noqa: S310 - http or https
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=SEND_SECONDS).close()
    except HTTPError as error:
        raise NotSent(f"it answers {error.code}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise NotSent(getattr(reason, "strerror", None) or type(reason).__name__) from None
    except Exception as error:  # noqa: BLE001 - an answer that is no HTTP may raise anything
        raise NotSent(type(error).__name__) from None


def _bounded(act: Callable[[], None]) -> None:
    """Call in a thread, for which nobody waits longer than SEND_SECONDS: a server may answer byte by byte."""
    outcome: list[NotSent | None] = []

    def call() -> None:
        try:
            act()
            outcome.append(None)
        except NotSent as error:
            outcome.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(SEND_SECONDS)
    failure = outcome[0] if outcome else NotSent(f"no answer in {SEND_SECONDS} s")
    if failure:
        raise failure


def _run(command: list[str], message: bytes) -> None:
    try:
        # A group of its own: with the command, all that it has started is ended.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise NotSent(error.strerror or type(error).__name__) from None
    try:
        process.communicate(message, timeout=SEND_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotSent(f"it runs longer than {SEND_SECONDS} s") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise NotSent(f"exit status {process.returncode}")
