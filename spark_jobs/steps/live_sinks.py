"""Sinks that copy the live tables: TensorBoard, Delta tables."""

import json
from collections.abc import Callable
from pathlib import Path

from longtail.conf.base.files import write_json_atomically
from longtail.streaming.live.disk import named_if_full

SINKS_FILE = "sinks.json"
"""Beside the tables: where they are copied to, for `longtail runs`."""


def update_sinks(
    tables_dir: Path,
    *,
    tensorboard: Path | None,
    as_delta: bool,
    also: Callable[[list[str]], None] = lambda runs: None,
) -> Callable[[list[str]], None]:
    """A function that copies the tables of the named runs to the chosen sinks; only these are imported.

    tensorboard: directory of the scalars; None for no scalars
    as_delta: write the tables as Delta tables too
    also: called with the names afterwards
    """
    where = {"tensorboard": tensorboard and str(tensorboard.absolute()), "delta": as_delta}
    with named_if_full(tables_dir):
        write_json_atomically(tables_dir / SINKS_FILE, where)
        update = _sinks(tables_dir, tensorboard, as_delta)

    def update_all(runs: list[str]) -> None:
        update(runs)
        also(runs)

    return update_all


def update_known_sinks(tables_dir: Path, runs: list[str]) -> None:
    """Bring the sinks that a monitor last had up to date with the tables of the named runs."""
    try:
        where = json.loads((tables_dir / SINKS_FILE).read_text(encoding="utf-8"))
        tensorboard, as_delta = where["tensorboard"], where["delta"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    _sinks(tables_dir, Path(tensorboard) if tensorboard else None, bool(as_delta))(runs)


def _sinks(tables_dir: Path, tensorboard: Path | None, as_delta: bool) -> Callable[[list[str]], None]:
    updates: list[Callable[[list[str]], None]] = []
    if tensorboard is not None:
        from longtail.streaming.tables.tensorboard import TensorBoardSink

        updates.append(TensorBoardSink(tables_dir, tensorboard).update)
    if as_delta:
        from longtail.streaming.tables.delta import DELTA_DIRECTORY, DeltaTables

        updates.append(DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY).update)

    def update(runs: list[str]) -> None:
        for one in updates:
            one(runs)

    return update
