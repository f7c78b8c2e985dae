"""The web server of the page, with fixed addresses.

    /               the page
    /state?...      its state for a selection, as JSON; 204 if the tables have not changed since ?version=
    /data.csv?...   rows of a result table of a run (table_csv.py)
    /images?...     images behind a number, as HTML (gallery_query.py)
    /log?run=...    the log of a run, as HTML or as text (log_page.py)
    /checkpoint?... a checkpoint of a run (checkpoint_page.py)
    /reports/...    reports of experiments (report_page.py)
    /act            where runs may be changed: does so (actions.py)
    /page.css, /gallery.css, /page.js, /charts.js, /keys.js, /gallery.js, /log.js, /actions.js, /plotly.min.js

No part of a request becomes a path: the files are read when the server starts, and a run's name is used only if the
tables have it.
"""

import errno
import gzip
import hashlib
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from longtail.conf.base.errors import UserError
from longtail.streaming.dashboard import checkpoint_page, gallery_query, log_page, report_page, table_csv
from longtail.streaming.dashboard.actions import ADDRESS, Act, RunActions
from longtail.streaming.dashboard.checkpoint_page import CheckpointFile
from longtail.streaming.dashboard.gallery import Gallery, WantedImages, gallery_html
from longtail.streaming.dashboard.gallery_query import wanted_images
from longtail.streaming.dashboard.log_page import RunText, log_html
from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.page import PageState, page_state, whole_page
from longtail.streaming.dashboard.rendering import compile_templates
from longtail.streaming.dashboard.report_page import Reports
from longtail.streaming.dashboard.selection import Selection, read_selection
from longtail.streaming.dashboard.table_csv import csv_parts, rows_to_download
from longtail.streaming.dashboard.table_rows import ReadTable

_STYLES = ("page.css", "gallery.css")
_SCRIPTS = ("page.js", "charts.js", "keys.js", "gallery.js", "log.js", "actions.js")
_OF_HOST = (errno.EADDRNOTAVAIL, errno.EINVAL)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Answer = Callable[[Request], Response]
SECONDS_TO_ANSWER = 5
"""Time that pending requests have when the server ends."""

# Browsers load from this server only, whatever the tables contain; the charts need inline styles.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}  # fmt: skip


def dashboard_page(
    read: ReadTable,
    version: Callable[[], str],
    *,
    host: str,
    notes: Callable[[], RunNotes] = RunNotes,
    act: Act | None = None,
    images: Callable[[WantedImages], Gallery] | None = None,
    log: Callable[[str], RunText] | None = None,
    reports: Reports | None = None,
    checkpoint: Callable[[str, str], CheckpointFile] | None = None,
) -> Starlette:
    """The application.

    read: reads a result table by name, of one run or of all
    version: returns a text that changes whenever a table does
    host: address that it will listen on; on loopback, requests for another host name are refused, which prevents web
    pages from reading this one through a name of their own (DNS rebinding)
    notes: what is known of the runs beside their tables
    act: changes a run; without it, the page changes nothing
    images: finds the images behind a number; without it, the page shows none
    log: the log of a run; without it, the page shows none
    reports: those that the page leads to
    checkpoint: opens a checkpoint of a run, the last or the best one; without it, the page gives none away
    """

    def is_known(run: str) -> bool:
        return run in read("runs", run)["run"].to_pylist()

    def known() -> RunNotes:
        found = reports.by_run() if reports else {}
        return replace(notes(), has_logs=log is not None, gives_checkpoints=checkpoint is not None, reports=found)

    actions = RunActions(act, is_known) if act else None

    def selected(request: Request) -> Selection:
        return read_selection(request.query_params.multi_items())

    # Not async: each request runs in its own thread, so that a slow one does not block the others.
    def page(request: Request) -> Response:
        # The panels follow with the first state: the browser has nothing to draw them with yet.
        html = whole_page(
            page_state(read, selected(request), known(), panels={}), token=actions.token if actions else None
        )
        # Texts in JSON may have half a character, "\ud800": it is none in UTF-8, and must not hide all other runs.
        return HTMLResponse(html.encode("utf-8", "replace"), headers=_HEADERS)

    def state(request: Request) -> Response:
        current = version()
        if request.query_params.get("version") == current:
            return Response(status_code=204, headers=_HEADERS)
        content = state_json(page_state(read, selected(request), known()), current)
        return Response(content, media_type="application/json", headers=_HEADERS)

    def data(request: Request) -> Response:
        table, run, split = (request.query_params.get(name, "") for name in ("table", "run", "split"))
        rows = rows_to_download(read, table, run, split)
        if rows is None:
            return PlainTextResponse("there are no such rows", 404, headers=_HEADERS)
        named = {"Content-Disposition": f'attachment; filename="{run}-{table}.csv"'}
        return StreamingResponse(csv_parts(rows), media_type="text/csv", headers={**_HEADERS, **named})

    compile_templates()
    static = files("longtail.streaming.dashboard") / "static"
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    routes = [
        Route("/", page),
        Route("/state", state),
        Route(table_csv.ADDRESS, data),
        Route(gallery_query.ADDRESS, _gallery_answer(images, read)),
        Route(log_page.ADDRESS, _log_answer(log, is_known)),
        Route(checkpoint_page.ADDRESS, _checkpoint_answer(checkpoint, is_known)),
        Route(report_page.ADDRESS, _report_answer(reports)),
        *(Route(f"/{name}", _fixed((static / name).read_bytes(), "text/css")) for name in _STYLES),
        *(Route(f"/{name}", _fixed((static / name).read_bytes(), "text/javascript")) for name in _SCRIPTS),
        Route("/plotly.min.js", _fixed(plotly, "text/javascript")),
    ]
    if actions:
        routes.append(Route(ADDRESS, actions.answer, methods=["POST"]))
    trusted = [*LOOPBACK, f"[{LOOPBACK[2]}]"] if host in LOOPBACK else ["*"]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=trusted),
        Middleware(GZipMiddleware, minimum_size=10_000, compresslevel=3),  # compressed responses stay as they are
    ]
    return Starlette(routes=routes, middleware=middleware)


def _gallery_answer(images: Callable[[WantedImages], Gallery] | None, read: ReadTable) -> Answer:
    def answer(request: Request) -> Response:
        wanted = wanted_images(read, request.query_params)
        if wanted is None or images is None:
            missing = "the page does not know its runs' images" if images is None else "there is no such run or class"
            return PlainTextResponse(missing, 404, headers=_HEADERS)
        return HTMLResponse(gallery_html(images(wanted)).encode("utf-8", "replace"), headers=_HEADERS)

    return answer


def _log_answer(log: Callable[[str], RunText] | None, is_known: Callable[[str], bool]) -> Answer:
    def answer(request: Request) -> Response:
        run = request.query_params.get("run", "")
        if log is None or not is_known(run):
            missing = "the page does not know its runs' logs" if log is None else "there is no such run"
            return PlainTextResponse(missing, 404, headers=_HEADERS)
        found = log(run)
        if request.query_params.get("whole") != "1" or found.problem:
            return HTMLResponse(log_html(run, found).encode("utf-8", "replace"), headers=_HEADERS)
        named = {"Content-Disposition": f'attachment; filename="{run}.log"'}
        return PlainTextResponse(found.text.encode("utf-8", "replace"), headers={**_HEADERS, **named})

    return answer


def _checkpoint_answer(
    checkpoint: Callable[[str, str], CheckpointFile] | None, is_known: Callable[[str], bool]
) -> Answer:
    def answer(request: Request) -> Response:
        run, of = (request.query_params.get(name, "") for name in ("run", "of"))
        if checkpoint is None:
            return PlainTextResponse("checkpoints are not to be had from this page", 403, headers=_HEADERS)
        if not is_known(run):
            return PlainTextResponse("there is no such run", 404, headers=_HEADERS)
        found = checkpoint(run, of)
        if found.problem is not None:
            return PlainTextResponse(found.problem, 404, headers=_HEADERS)
        headers = {
            **_HEADERS, "Content-Disposition": f'attachment; filename="{run}-{found.name}"',
            # As it is: compressing weights takes long and gains nothing, and the browser could not tell how far it is.
            "Content-Encoding": "identity", "Content-Length": str(found.size),
        }  # fmt: skip
        return StreamingResponse(found.parts(), media_type="application/octet-stream", headers=headers)

    return answer


def _report_answer(reports: Reports | None) -> Answer:
    def answer(request: Request) -> Response:
        name, file = (request.path_params[part] for part in ("name", "file"))
        content = reports.content(name, file) if reports else None
        if content is None:
            return PlainTextResponse("there is no such report", 404, headers=_HEADERS)
        headers = {**_HEADERS, "Content-Security-Policy": report_page.CONTENT_POLICY}
        if file.endswith(".html"):
            return HTMLResponse(content, headers=headers)
        named = {"Content-Disposition": f'attachment; filename="{name}-{file}"'}
        return Response(content, media_type="application/octet-stream", headers={**headers, **named})

    return answer


def state_json(state: PageState, version: str) -> str:
    """The state as JSON: version, title, view, html, figures."""
    # Plotly encodes the charts itself, with packed arrays.
    figures = (f"{json.dumps(name)}:{figure.to_json() if figure else 'null'}" for name, figure in state.figures.items())
    rest = json.dumps({"version": version, "title": state.title, "view": state.view, "html": state.html})
    return f'{rest[:-1]},"figures":{{{",".join(figures)}}}}}'


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on an address. Raises UserError if that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason, _, _ = str(error.strerror).partition(" (while")
        # Numbers below 0 are those of names that nobody knows.
        of_host = error.errno is not None and (error.errno < 0 or error.errno in _OF_HOST)
        mend = "--host, a name or an address of this machine" if of_host else "--port"
        raise UserError(f"cannot listen on {host} port {port}: {reason}; choose another {mend}") from None


def is_private(listening: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


@contextmanager
def serving(app: Starlette, listening: socket.socket) -> Iterator[threading.Event]:
    """Serve requests in a thread during the block; the event is set when the server ends.

    Wait for the event, not for the thread: Python 3.11 regards a thread as ended if its join() was interrupted by
    Ctrl-C, and the process would exit while the server is still running.
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
    """The URL of the page on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _fixed(content: bytes, media_type: str) -> Answer:
    """A response that never changes: compressed once, and sent only to browsers that have not cached it."""
    compressed = gzip.compress(content, mtime=0)
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "ETag": tag}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(compressed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(content, media_type=media_type, headers=headers)

    return answer
