"""What else receives the live tables: TensorBoard, Delta tables."""

from collections.abc import Callable
from pathlib import Path


def update_sinks(tables_dir: Path, *, tensorboard: Path | None, as_delta: bool) -> Callable[[list[str]], None]:
    """A function of run names that copies the tables of these runs to the other sinks; imports only those in use.

    tensorboard: directory of the scalars; None for none
    as_delta: keep the tables as Delta tables too
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
