"""The command that repeats or resumes a run, and where its checkpoint is, from the options that its events tell.

Events may come from any program: what are no options of Longtail have no command.
"""

from functools import lru_cache
from pathlib import PurePosixPath

from longtail.conf.base.errors import UserError
from longtail.conf.next_command import own_command
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.source import SET_IS_PREPARED
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.streaming.dashboard.configurations import options_in

_JOBS: dict[str, tuple[str, type[RunOptions]]] = {
    TrainOptions.phase: ("train", TrainOptions),
    TrainSemiOptions.phase: ("train_semi", TrainSemiOptions),
    TrainClassifierOptions.phase: ("train_classifier", TrainClassifierOptions),
    **{phase: (phase, options) for phase, options in PRETRAININGS.items()},
}
"""Job and options by phase."""


@lru_cache(maxsize=256)
def command_of(phase: str, configuration: str | None) -> str | None:
    """The command line of a run; None if its options are none of this version of Longtail."""
    if phase not in _JOBS or not (values := options_in(configuration)):
        return None
    job, options_type = _JOBS[phase]
    try:
        return own_command(job, options_type.model_validate(dict(values), context=SET_IS_PREPARED))
    except (UserError, ValueError, OSError):
        return None


def checkpoint_of(run: str, configuration: str | None) -> str | None:
    """Where a finished epoch of the run leaves its checkpoint, as its command names its directory of runs."""
    runs_dir = options_in(configuration).get("runs_dir")
    return str(PurePosixPath(runs_dir) / run / "ckpt.pth.tar") if isinstance(runs_dir, str) else None
