"""Which running runs are lost or silent at the moment of looking. No Spark.

The tables say what the events say, whenever they arrive. That a run says nothing any more depends on the time of
looking, so readers decide it, at each look (streaming/tables/reading.py): the tables stay those of all events, and a
lost run is running again as soon as it is heard of.

- A training writes heartbeats into the directory of the run (training/heartbeat.py). If there was none for
  HEARTBEAT_SECONDS, its process is gone: the run is lost. The clocks of the machines must agree that far.
- Of a run whose directory is elsewhere, the last event decides: the run is lost after `silent_seconds`.
- One that has written its result is finished: its process ended before it could say so.
- A run whose process lives, but that has sent no event for `silent_seconds`, is silent: it stays running, and there is
  an alert.
"""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.locations import Location, location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.heartbeats import last_heartbeat
from longtail.streaming.events.schema import FINISHED
from longtail.streaming.tables.schemas import LOST, RUNNING, TABLES
from longtail.streaming.tables.writing import LIVENESS

HEARTBEAT_SECONDS = 30.0
"""A heartbeat is written every two seconds, in a store every ten (training/heartbeat.py)."""
LOOK_SECONDS_OF_STORES = 5.0
RULE = "run_silent"
RESULT_FILE = "result.json"
"""In the directory of a run that has finished (training/result_file.py)."""


@dataclass(frozen=True)
class Liveness:
    """How to judge running runs.

    silent_seconds: time without an event after which a run is silent, or lost without a heartbeat; None: never
    runs_dir: where the runs write heartbeats; None: nowhere on this machine
    """

    silent_seconds: float | None = None
    runs_dir: Location | None = None

    def judged(self, runs: pa.Table, *, now: float) -> pa.Table:
        """Rows of `runs`; a running run that is lost at `now` has the status `lost`, and the reason as message."""
        ends = {row["run"]: end for row in _running(runs) if (end := self._end(row, now))}
        if not ends:
            return runs
        return pa.Table.from_pylist([row | ends.get(row["run"], {}) for row in runs.to_pylist()], schema=runs.schema)

    def alerts(self, runs: pa.Table, *, now: float) -> pa.Table:
        """Rows of `alerts` for the running runs among rows of `runs` that are lost or silent at `now`."""
        alerts = []
        for row in _running(runs):
            end = self._end(row, now)
            message = self._silence(row, now) if end is None else end["message"] if end["status"] == LOST else None
            if message:
                alerts.append({"run": row["run"], "split": "", "epoch": row["epoch"], "rule": RULE, "message": message})
        return pa.Table.from_pylist(alerts, schema=TABLES["alerts"])

    def _end(self, row: dict[str, Any], now: float) -> dict[str, str] | None:
        """Status and message of the running run of a row that does not run any more; None if it does."""
        reason = self._loss(row, now)
        if reason is None:
            return None
        if self.runs_dir is not None and _has_result(self.runs_dir / row["run"], now):
            return {"status": FINISHED, "message": ""}
        return {"status": LOST, "message": reason}

    def _loss(self, row: dict[str, Any], now: float) -> str | None:
        """Why the running run of a row is lost; None if it is not."""
        since_event = now - row["updated_at"]
        if self.runs_dir is not None and (run_dir := self.runs_dir / row["run"]).is_dir():
            heartbeat = _last_heartbeat(run_dir, now)
            is_beating = heartbeat is not None and now - heartbeat <= HEARTBEAT_SECONDS
            # Where no heartbeat can be written, on a full disk, events may go on. One of the future says nothing.
            if is_beating or -HEARTBEAT_SECONDS <= since_event <= HEARTBEAT_SECONDS or now == -math.inf:
                return None
            return f"its process is gone: no heartbeat{f' since {_shown(heartbeat)}' if heartbeat is not None else ''}"
        if self.silent_seconds is not None and since_event > self.silent_seconds:
            return f"no event since {_shown(row['updated_at'])}"
        return None

    def _silence(self, row: dict[str, Any], now: float) -> str | None:
        if self.silent_seconds is None:
            return None
        silence = now - row["updated_at"]
        return f"no event for {silence:.0f} s" if silence > self.silent_seconds else None


def _running(runs: pa.Table) -> list[dict[str, Any]]:
    """The rows of runs that are recorded as running: few of many old ones."""
    return runs.filter(pc.equal(runs["status"], RUNNING)).to_pylist()


def read_liveness(tables_dir: Path) -> Liveness:
    """How the runs of a directory of result tables are judged, as its writer has stored it."""
    try:
        rule = json.loads((tables_dir / LIVENESS).read_text(encoding="utf-8"))
        return Liveness(rule["silent_seconds"], _location(rule["runs_dir"], tables_dir))
    except (OSError, ValueError, LookupError, TypeError):  # missing or damaged, until its writer starts again
        return Liveness()


def _location(named: str | None, tables_dir: Path) -> Location | None:
    """The directory of the runs: relative to the tables, or the URL of a store."""
    if named is None or "://" not in named:
        return None if named is None else tables_dir / named
    return location(named)


def _last_heartbeat(run_dir: Location, now: float) -> float | None:
    if isinstance(run_dir, StorePath) and math.isfinite(now):
        return _heartbeat_in_store(run_dir, int(now // LOOK_SECONDS_OF_STORES))
    return last_heartbeat(run_dir)


def _has_result(run_dir: Location, now: float) -> bool:
    if isinstance(run_dir, StorePath) and math.isfinite(now):
        return _result_in_store(run_dir, int(now // LOOK_SECONDS_OF_STORES))
    return (run_dir / RESULT_FILE).is_file()


@lru_cache(maxsize=1000)
def _heartbeat_in_store(run_dir: StorePath, interval: int) -> float | None:
    """Asked once in each interval of LOOK_SECONDS_OF_STORES, however often the tables are read."""
    return last_heartbeat(run_dir)


def _shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


@lru_cache(maxsize=1000)
def _result_in_store(run_dir: StorePath, interval: int) -> bool:
    """As _heartbeat_in_store."""
    return (run_dir / RESULT_FILE).is_file()
