"""The command that repeats or resumes a run, and where its checkpoints are, from the options that its events tell.

Events may come from any program: what are no options of Longtail have no command.
"""

from functools import lru_cache

from longtail.conf.base.errors import UserError
from longtail.conf.next_command import own_command
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.source import SET_IS_PREPARED
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.streaming.dashboard.checkpoint_page import BEST, LAST
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


def checkpoints_of(run: str, configuration: str | None, *, has_best: bool) -> dict[str, str]:
    """Where a run leaves its checkpoints, as its command names its directory of runs: by LAST and BEST.

    has_best: whether it has validation images, which the best epoch is chosen by
    """
    runs_dir = options_in(configuration).get("runs_dir")
    if not isinstance(runs_dir, str):
        return {}
    files = {LAST: "ckpt.pth.tar"} | ({BEST: "ckpt.best.pth.tar"} if has_best else {})
    # A text: the directory may be a URL, or one of another system.
    return {of: f"{runs_dir.rstrip('/')}/{run}/{file}" for of, file in files.items()}
