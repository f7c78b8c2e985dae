"""TensorBoard's log of a run, on the local disk or in a store."""

import tempfile
from pathlib import Path

from tensorboardX import SummaryWriter

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath


class ScalarLog:
    """Writes scalars; in a store the log is written again, whole, after each epoch.

    purge_step: what an earlier attempt has logged from this step on does not count
    """

    def __init__(self, directory: Location, *, purge_step: int) -> None:
        self._store = directory if isinstance(directory, StorePath) else None
        self._scratch = tempfile.TemporaryDirectory(prefix="longtail-tensorboard-") if self._store else None
        self._local = Path(self._scratch.name if self._scratch else str(directory))
        self._writer = SummaryWriter(str(self._local), purge_step=purge_step)

    def close(self) -> None:
        """End the log."""
        self._writer.close()
        if self._scratch:
            self._scratch.cleanup()

    def write(self, values: dict[str, float | None], *, step: int) -> None:
        """Add the values of a step, by name; None is left out."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()
        if self._store:
            for file in self._local.iterdir():
                (self._store / file.name).upload(file)
