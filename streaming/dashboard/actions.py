"""Changes of runs that a reader of the page asks for: POST /act.

    {"action": "rename", "run": "digits-1", "value": "my best"}

A request counts only if it comes from a page of this server: the browser says so (Origin), and it has the token that
the page was given, which no other page can read. What is done is up to `longtail runs`.
"""

import hmac
import json
import secrets
from collections.abc import Callable
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import one_line
from longtail.streaming.events.schema import RUN_NAME

ADDRESS = "/act"
PROOF = "X-Longtail-Token"
"""The header with the page's token."""
TAKES_VALUE = {"rename": True, "tag": True, "note": True, "hide": False, "unhide": False, "delete": False}
"""The actions, and whether they need a text."""
MOST_BYTES = 16_384
"""Of a request; the longest note has 2,000 characters."""

Act = Callable[[str, str, str | None], None]
"""act(action, run, value); raises UserError if it is impossible."""


class RequestRefused(Exception):
    """A request that has no effect: the status of the answer, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class RunActions:
    """The endpoint of the changes.

    act: does one
    is_known: whether the tables have a run of this name
    """

    def __init__(self, act: Act, is_known: Callable[[str], bool]) -> None:
        self.token = secrets.token_urlsafe(32)
        self._act, self._is_known = act, is_known
        self._one_at_a_time = Lock()

    async def answer(self, request: Request) -> Response:
        """204 if it is done; otherwise one line that says why not."""
        try:
            self._check_sender(request)
            action, run, value = _read(await _body(request))
            await run_in_threadpool(self._do, action, run, value)
        except RequestRefused as refused:
            return PlainTextResponse(refused.reason, refused.status)
        return Response(status_code=204)

    def _check_sender(self, request: Request) -> None:
        origin = urlsplit(request.headers.get("origin", ""))
        host = request.headers.get("host", "")
        # Behind a server that does the encryption, the scheme that the browser sees is another one.
        if origin.scheme not in ("http", "https") or not host or origin.netloc != host:
            raise RequestRefused(403, "the request does not come from this page")
        if not hmac.compare_digest(request.headers.get(PROOF, "").encode(), self.token.encode()):
            raise RequestRefused(403, "the page is older than its server: reload it")

    def _do(self, action: str, run: str, value: str | None) -> None:
        # Never a pattern, which `longtail runs` takes for several runs at once.
        if not RUN_NAME.fullmatch(run) or not self._is_known(run):
            raise RequestRefused(404, "there is no such run")
        with self._one_at_a_time:
            try:
                self._act(action, run, value)
            except UserError as error:
                raise RequestRefused(409, one_line(str(error))) from None


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RequestRefused(415, "JSON was expected")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise RequestRefused(413, f"at most {MOST_BYTES} bytes were expected")
    return body


def _read(body: bytes) -> tuple[str, str, str | None]:
    """Action, run and value of a request."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.keys() != {"action", "run", "value"}:
        raise RequestRefused(400, "an object with action, run and value was expected")
    action, run, value = content["action"], content["run"], content["value"]
    if not isinstance(action, str) or action not in TAKES_VALUE:
        raise RequestRefused(400, f"action: one of {', '.join(TAKES_VALUE)} was expected")
    if not isinstance(run, str) or (not isinstance(value, str) if TAKES_VALUE[action] else value is not None):
        expected = "a value" if TAKES_VALUE[action] else "no value"
        raise RequestRefused(400, f"{action}: the name of a run and {expected} were expected")
    return action, run, value
