"""The page's server: five addresses, all of them known beforehand.

    /               the page
    /state?...      what it shows of a selection, as JSON; 204 if the tables are still those of ?version=
    /page.css, /page.js, /plotly.min.js

Nothing else is there. No part of a request becomes a path: the three files are
read when the server starts, and a run's name counts only if the tables have it.
"""

import gzip
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from longtail.conf.base.errors import UserError
from longtail.streaming.dashboard.page import PageState, ReadTable, page_state, whole_page
from longtail.streaming.dashboard.selection import Selection, read_selection

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECONDS_TO_ANSWER = 5
"""That requests under way have when the server ends."""

# The browser asks this server only, whatever the tables contain; the charts set styles of their own.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}  # fmt: skip


def dashboard(read: ReadTable, version: Callable[[], str], *, host: str) -> Starlette:
    """The application.

    read: a result table by name, of one run or of all; version: a text that changes whenever a table does
    host: where it will listen; on loopback, requests that name another host are refused, so that a page of the web
    cannot read this one through a name of its own (DNS rebinding)
    """

    def selected(request: Request) -> Selection:
        return read_selection(request.query_params.multi_items())

    # Plain functions: each request runs in a thread of its own, and a slow one holds up no other.
    def page(request: Request) -> Response:
        return HTMLResponse(whole_page(page_state(read, selected(request))), headers=_HEADERS)

    def state(request: Request) -> Response:
        current = version()
        if request.query_params.get("version") == current:
            return Response(status_code=204, headers=_HEADERS)
        content = state_json(page_state(read, selected(request)), current)
        return Response(content, media_type="application/json", headers=_HEADERS)

    static = files("longtail.streaming.dashboard") / "static"
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    routes = [
        Route("/", page),
        Route("/state", state),
        Route("/page.css", _fixed((static / "page.css").read_bytes(), "text/css")),
        Route("/page.js", _fixed((static / "page.js").read_bytes(), "text/javascript")),
        Route("/plotly.min.js", _fixed(plotly, "text/javascript")),
    ]
    trusted = [*LOOPBACK, f"[{LOOPBACK[2]}]"] if host in LOOPBACK else ["*"]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=trusted),
        Middleware(GZipMiddleware, minimum_size=10_000, compresslevel=3),  # what is packed already stays as it is
    ]
    return Starlette(routes=routes, middleware=middleware)


def state_json(state: PageState, version: str) -> str:
    # The charts come as JSON already, their arrays packed.
    figures = (f"{json.dumps(name)}:{figure.to_json() if figure else 'null'}" for name, figure in state.figures.items())
    rest = json.dumps({"version": version, "title": state.title, "html": state.html})
    return f'{rest[:-1]},"figures":{{{",".join(figures)}}}}}'


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises UserError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None


@contextmanager
def serving(app: Starlette, listening: socket.socket) -> Iterator[threading.Event]:
    """Requests are answered, in a thread of their own, as long as the block lasts; the event comes if they end before.

    To wait for the event, not for the thread: Python 3.11 takes a thread for ended whose join() was interrupted by
    Ctrl-C, and the process would end under it.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=SECONDS_TO_ANSWER)
    server, ended = uvicorn.Server(config), threading.Event()

    def serve() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            ended.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        server.should_exit = True
        thread.join()


def address(listening: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _fixed(content: bytes, media_type: str) -> Callable[[Request], Response]:
    """What never changes while the server runs: packed once, and sent again only to a browser that has it not."""
    packed = gzip.compress(content, mtime=0)
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "ETag": tag}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(content, media_type=media_type, headers=headers)

    return answer
