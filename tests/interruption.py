"""Trainings that a user stops with Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from longtail.training import run_record
from longtail.training.checkpoints import Checkpoint
from longtail.training.run_directory import CHECKPOINT_FILE


@contextmanager
def interrupted_after(epoch: int) -> Iterator[None]:
    """A training in the block is interrupted right after the checkpoint of an epoch; the block must end so."""
    save = run_record.save_checkpoint

    def save_and_interrupt(path: Path, checkpoint: Checkpoint) -> None:
        save(path, checkpoint)
        if path.name == CHECKPOINT_FILE and checkpoint.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_record, "save_checkpoint", save_and_interrupt)
        yield
