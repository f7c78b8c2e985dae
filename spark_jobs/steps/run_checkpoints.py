"""The checkpoints of the runs in a directory, for those who look at runs."""

import os
from collections.abc import Callable
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_for_reading
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import one_line
from longtail.streaming.dashboard.checkpoint_page import BEST, LAST, CheckpointFile
from longtail.training.run_directory import BEST_CHECKPOINT_FILE, CHECKPOINT_FILE

_FILES = {LAST: CHECKPOINT_FILE, BEST: BEST_CHECKPOINT_FILE}


def checkpoints_of_runs(runs_dir: Location) -> Callable[[str, str], CheckpointFile]:
    """Opens a checkpoint by the name of its run and LAST or BEST."""

    def checkpoint(run: str, of: str) -> CheckpointFile:
        if of not in _FILES:
            return CheckpointFile(problem=f"of: one of {', '.join(_FILES)} was expected")
        run_dir, name = runs_dir / run, _FILES[of]
        if isinstance(run_dir, Path) and (run_dir.is_symlink() or (run_dir / name).is_symlink()):
            return CheckpointFile(problem=f"{run_dir / name} is a link, which may lead anywhere: it is not sent")
        try:
            content = open_for_reading(run_dir / name)
            size = content.seek(0, os.SEEK_END)
            content.seek(0)
        except FileNotFoundError:
            return CheckpointFile(
                problem=f"there is no {run_dir / name}: the run is elsewhere, or its checkpoint was removed"
            )
        except (UserError, OSError) as error:
            return CheckpointFile(problem=one_line(str(error)))
        return CheckpointFile(name=name, size=size, content=content)

    return checkpoint
