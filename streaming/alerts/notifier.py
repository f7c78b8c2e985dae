"""Sends each alert once, over restarts too, to people who do not look at the tables. No Spark.

A thread of its own looks at the alerts of the runs that changed, and now and then at those of all runs, since a run
that has gone silent changes nothing. It sends what is new in one message, at most every PAUSE_SECONDS; what a receiver
does not take is sent later. Nothing here stops or delays the tables.

    TABLES_DIR/told_alerts.json
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.shown_text import one_line, shortened
from longtail.streaming.alerts.receivers import NotSent, Receiver
from longtail.streaming.tables.deletions import read_deletion_times
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.query_rows import OWN_RULE
from longtail.streaming.tables.reading import read_result_table

SENT_FILE = "told_alerts.json"
FORMAT_VERSION = 1
PAUSE_SECONDS = 5
"""At least, between two messages."""
LONGEST_PAUSE_SECONDS = 300
"""At most, before a receiver that fails is tried again."""
LOOK_AT_ALL_SECONDS = 60
MAX_ALERTS = 20
"""In one message; of the rest it has the number."""
MAX_SENT = 20_000
"""So many alerts are remembered, the latest ones."""
_LONGEST_MESSAGE = 500


class Notifier:
    """Sends new alerts of the tables in a directory, and those it is given, until it is closed."""

    def __init__(self, receiver: Receiver, tables_dir: Path, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._receiver, self._tables_dir, self._pause = receiver, tables_dir, pause_seconds
        self._sent = _read_sent(tables_dir / SENT_FILE)
        self._changed: set[str] = set()
        self._given: list[dict[str, Any]] = []
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._is_closing = False
        self._num_failures = 0
        self._thread = threading.Thread(target=self._work, daemon=True, name="longtail alerts")
        self._thread.start()

    def update(self, runs: list[str]) -> None:
        """The tables of these runs have changed. Returns at once."""
        with self._lock:
            self._changed.update(runs)
        self._wake.set()

    def send(self, alerts: Iterable[Mapping[str, Any]]) -> None:
        """Send these alerts (run, rule, message), unless they were sent before. Returns at once."""
        with self._lock:
            self._given = [*self._given, *map(dict, alerts)][-MAX_SENT:]
        self._wake.set()

    def close(self, *, wait_seconds: float) -> None:
        """Send what is left, if that takes no longer than wait_seconds."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(wait_seconds)

    def _work(self) -> None:
        all_at = time.monotonic() + LOOK_AT_ALL_SECONDS
        while True:
            self._wake.wait(LOOK_AT_ALL_SECONDS)
            self._wake.clear()
            closing = self._is_closing
            if time.monotonic() >= all_at:
                self.update(list_runs(self._tables_dir))
                all_at = time.monotonic() + LOOK_AT_ALL_SECONDS
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the tables go on and the next look may do
                self._failed(f"{type(error).__name__}: {error}")
            if closing:
                return
            self._sleep()

    def _sleep(self) -> None:
        """Pause, for longer after each failure; closing ends it."""
        until = time.monotonic() + min(self._pause * 2**self._num_failures, LONGEST_PAUSE_SECONDS)
        while not self._is_closing and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        if self._num_failures:
            self._wake.set()

    def _look(self) -> None:
        with self._lock:
            runs, given = sorted(self._changed), self._given
            self._changed, self._given = set(), []
        try:
            found = [*given, *(row for run in runs for row in self._alerts_of(run))]
            deleted_at = read_deletion_times(self._tables_dir)
            ids = ((alert_id(alert, deleted_at=deleted_at.get(alert["run"])), alert) for alert in found)
            new = {identity: alert for identity, alert in ids if identity not in self._sent}
            if new:
                self._receiver.send(message_of(new))
                self._remember(new)
        except BaseException as error:
            self.update(runs)
            self.send(given)
            if not isinstance(error, NotSent):
                raise
            self._failed(str(error))
            return
        self._num_failures = 0

    def _alerts_of(self, run: str) -> list[dict[str, Any]]:
        return read_result_table(self._tables_dir, "alerts", run).to_pylist()

    def _remember(self, new: Iterable[str]) -> None:
        self._sent.update(dict.fromkeys(new))
        self._sent = dict.fromkeys([*self._sent][-MAX_SENT:])
        write_json_atomically(self._tables_dir / SENT_FILE, {"format_version": FORMAT_VERSION, "alerts": [*self._sent]})

    def _failed(self, reason: str) -> None:
        if not self._num_failures:
            text = f"alerts do not reach {self._receiver.name} ({reason}); they will be sent when it takes them"
            print(one_line(text), file=sys.stderr, flush=True)
        self._num_failures = min(self._num_failures + 1, 20)


def alert_id(alert: Mapping[str, Any], *, deleted_at: float | None = None) -> str:
    """The identity of an alert: of the same run, split and rule, and about the same class; whatever its figures are.

    deleted_at: when another run of this name was deleted, None if none was
    """
    rule, message = alert["rule"], alert["message"]
    if rule.startswith(OWN_RULE):  # a user's own: what they say is what they mean
        subject = message
    else:
        # "accuracy of class X fell to 3.1 %": the only rule that may find several things in a run and split.
        subject = message.rpartition(" fell to ")[0] if rule == "class_collapsed" else ""
    parts = [alert["run"], alert.get("split", ""), rule, subject, *([] if deleted_at is None else [deleted_at])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def message_of(alerts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The message about alerts, by identity: `text` to read, `alerts` for programs, and how many `more` there are."""
    shown = [
        {
            "id": identity,
            "run": alert["run"],
            "split": alert.get("split", ""),
            "epoch": alert.get("epoch"),
            "rule": alert["rule"],
            "message": shortened(one_line(alert["message"]), _LONGEST_MESSAGE),
        }
        for identity, alert in list(alerts.items())[:MAX_ALERTS]
    ]
    more = len(alerts) - len(shown)
    return {"text": _text(shown, more), "alerts": shown, "more": more}


def alert_line(alert: Mapping[str, Any]) -> str:
    """An alert (run, rule, message) as a line; run may be empty."""
    about = f"{alert['run']}: " if alert["run"] else ""
    return f"{about}{alert['message']} ({alert['rule']})"


def _text(shown: Sequence[Mapping[str, Any]], more: int) -> str:
    return "\n".join([*map(alert_line, shown), *([f"and {more} more alerts"] if more else [])])


def _read_sent(file: Path) -> dict[str, None]:
    """Identities of the alerts that were sent; none if the file is not there or damaged: then they are sent again."""
    try:
        return dict.fromkeys(map(str, json.loads(file.read_text(encoding="utf-8"))["alerts"]))
    except (OSError, ValueError, LookupError, TypeError):
        return {}
