"""Runs in the terminal: one line a run, without colours or wrapping, so that grep and cut can use it."""

import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import printable
from longtail.streaming.events.files import event_files_of
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.runs.listing import ListedRun, read_run_result


def run_lines(runs: Sequence[ListedRun], *, pattern: str) -> list[str]:
    """The runs whose name or tag matches as aligned columns, under a heading."""
    shown = [run for run in runs if fnmatchcase(run.run, pattern) or pattern in run.description.tags]
    if not shown:
        return ["no run"]
    rows = [("RUN", "STATE", "EPOCHS", "WHERE", "DISPLAY NAME", "TAGS"), *map(_row, shown)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def shown_run(runs_dir: Location, run: ListedRun) -> Iterator[str]:
    """All that is known of a run, one line each."""
    description, state = run.description, run.state or {}
    files = event_files_of(runs_dir / EVENTS_DIRECTORY, run.run)
    facts = {
        "run": run.run,
        "display name": description.display_name,
        "tags": ", ".join(description.tags),
        "note": description.note,
        "state": _row(run)[1],
        "epochs": _row(run)[2],
        "message": state.get("message"),
        "last event": state.get("updated_at") and _day(state["updated_at"]),
        "directory": runs_dir / run.run if "directory" in run.parts else "",
        "result": runs_dir / run.run / "result.json" if read_run_result(runs_dir, run.run) else "",
        "event files": f"{len(files)} ({sum(file.stat().st_size for file in files):,} bytes)" if files else "none",
        "live tables": ", ".join(part for part in run.parts if part not in ("directory", "events")),
    }
    for name, value in facts.items():
        if value not in ("", None):
            yield f"{name + ':':<14}{printable(str(value))}"


def _row(run: ListedRun) -> tuple[str, ...]:
    description, state = run.description, run.state or {}
    if run.deleted:
        return run.run, "deleted", "", f"trash until {_day(run.deleted.expires_at)}", "", ""
    status = str(state.get("status") or "unknown") + (", hidden" if description.hidden else "")
    epochs = f"{state['epoch'] or 0}/{state['num_epochs'] or 0}" if "epoch" in state else ""
    parts = ",".join(run.parts) or "nowhere"
    tags = ",".join(description.tags)
    return run.run, printable(status), epochs, parts, printable(description.display_name), printable(tags)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
