"""Where a training writes its heartbeats (training/heartbeat.py), and when the last one was written. No Spark."""

from longtail.conf.base.locations import Location

HEARTBEATS_DIRECTORY = "heartbeats"
"""Directory of the heartbeats of the ranks, inside the directory of the run."""


def last_heartbeat(run_dir: Location) -> float | None:
    """When a process of the run last wrote a heartbeat, in seconds since 1970-01-01 UTC; None if there is none.

    A process that ends, in whatever way but by a kill, removes its heartbeat.
    """
    times: list[float] = []
    for file in (run_dir / HEARTBEATS_DIRECTORY).glob("rank*.json"):
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:
            continue  # removed since it was listed
    return max(times, default=None)
