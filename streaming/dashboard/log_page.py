"""The log of a run on the page: /log?run=NAME has its last lines as HTML, with &whole=1 all of it as text."""

from dataclasses import dataclass

from longtail.streaming.dashboard.rendering import render

ADDRESS = "/log"
LAST_LINES = 200


@dataclass(frozen=True, kw_only=True)
class RunText:
    """A text about a run, and why there is none; None if there is."""

    text: str = ""
    problem: str | None = None


def log_html(run: str, log: RunText) -> str:
    """The last lines of a log, escaped, with a link to all of it where these are not all."""
    lines = log.text.splitlines()
    return render("log.html", run=run, lines=lines[-LAST_LINES:], num_earlier=max(0, len(lines) - LAST_LINES), log=log)
