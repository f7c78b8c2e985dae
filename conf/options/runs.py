"""Options of the job that manages runs."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from longtail.conf.base.locations import Location
from longtail.conf.options.base import JobOptions, option
from longtail.conf.options.location_types import DirectoryLocation

Action = Literal[
    "list", "show", "log", "rename", "tag", "note", "hide", "unhide", "archive", "delete", "restore", "export",
    "import",
]  # fmt: skip
WITH_VALUE = frozenset({"rename", "tag", "note", "export"})
"""Actions that take a VALUE."""
OF_SEVERAL_RUNS = frozenset({"list", "tag", "hide", "unhide", "archive", "delete"})
"""Actions whose RUN may be a pattern."""


class RunsOptions(JobOptions):
    """runs: list, name, tag, hide, archive, delete, restore, export and import runs, wherever they are shown.

    log prints what happened in the last attempts of a run, also why it failed. rename gives a run a name for displays,
    or none with ''; the run itself keeps its own. archive puts the many event files of a run into one, from which the
    same tables can be computed. delete moves a run (its directory, events and live tables) to the trash, from which
    restore brings it back. A monitor or dashboard that is running follows within a second or two.
    """

    examples = (
        ("list", "all runs, hidden and deleted ones too"),
        ("delete '*LDAM*' --dry_run", "what would be deleted"),
        ("export RUN run.zip", "one file, for `longtail runs import run.zip --runs_dir OTHER`"),
    )

    action: Action = option(..., "what to do", positional=True, group="Input")
    run: str | None = option(
        None,
        "name of a run; for list, tag, hide, unhide, archive and delete also a pattern such as '*LDAM*'; for import "
        "what export wrote",
        positional=True,
        group="Input",
    )
    value: str | None = option(
        None,
        "rename: the name to show; tag: tags, separated by commas, replacing the existing ones; note: a text; export: "
        "the file to write if it ends in .zip, otherwise the directory",
        positional=True,
        group="Input",
    )
    runs_dir: Location = option(Path("runs"), "directory of the runs", group="Input")
    tables_dir: DirectoryLocation | None = option(
        None, "live tables elsewhere than in analytics/ and dashboard/ of --runs_dir", group="Input"
    )
    keep_days: float = option(
        30.0, "delete: days until the run is removed from the trash permanently", group="Method", ge=0
    )
    purge: bool = option(False, "delete: permanently, also from the trash", group="Method")
    dry_run: bool = option(False, "show what would be deleted, restored or imported", group="Method")

    @model_validator(mode="after")
    def _the_action_has_what_it_needs(self) -> "RunsOptions":
        if self.run is None and self.action != "list":
            raise ValueError(f"{self.action} needs the name of a run: longtail runs {self.action} RUN")
        if (self.value is not None) != (self.action in WITH_VALUE):
            takes = "needs a VALUE after RUN" if self.value is None else f"takes no {self.value!r} after RUN"
            raise ValueError(f"{self.action} {takes}")
        if self.purge and self.action != "delete":
            raise ValueError("--purge goes with delete")
        return self
