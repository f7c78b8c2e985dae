"""The logs of the runs in a directory, for those who look at runs."""

from collections.abc import Callable
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import one_line
from longtail.streaming.dashboard.log_page import RunText
from longtail.training.run_log import read_log


def logs_of_runs(runs_dir: Location | None) -> Callable[[str], RunText]:
    """Gives the log of a run by its name; None if nobody knows where the runs are."""

    def log(run: str) -> RunText:
        if runs_dir is None:
            return RunText(
                problem="Nobody has said where the runs of these tables are: start the page with --runs_dir."
            )
        run_dir = runs_dir / run
        if isinstance(run_dir, Path) and run_dir.is_symlink():
            return RunText(problem=f"{run_dir} is a link, which may lead anywhere: its log is not shown.")
        try:
            text = read_log(run_dir)
        except (UserError, OSError) as error:
            return RunText(problem=one_line(str(error)))
        return RunText(text=text, problem=None if text else no_log(run_dir))

    return log


def no_log(run_dir: Location) -> str:
    """Why a run may have no log."""
    return f"There is no log in {run_dir}: the run is elsewhere, or was trained by an older version of Longtail."
