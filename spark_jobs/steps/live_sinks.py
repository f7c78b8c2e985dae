"""Sinks that copy the live tables: TensorBoard, Delta tables."""

from collections.abc import Callable
from pathlib import Path


def update_sinks(tables_dir: Path, *, tensorboard: Path | None, as_delta: bool) -> Callable[[list[str]], None]:
    """A function that copies the tables of the named runs to the chosen sinks; only these are imported.

    tensorboard: directory of the scalars; None for no scalars
    as_delta: write the tables as Delta tables too
    """
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
