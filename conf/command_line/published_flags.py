"""The flags of the scripts of "Rethinking the Value of Labels" (train.py, pretrain_moco.py, ...), as spelled there.

A flag that is spelled as the option here needs no entry. ALIASES name an equal option; REPLACED say what takes a flag's
place. Every script's flags are in tests/test_published_flags.py.
"""

import sys
from dataclasses import dataclass

from longtail.conf.base.errors import UserError

ALIASES = {
    "--data_path": "data_dir",
    "--data": "path",
    "--root_model": "runs_dir",
    "--root_path": "runs_dir",
    "--moco_dim": "projection_dim",
    "--moco_k": "queue_size",
    "--moco_m": "key_momentum",
    "--moco_t": "temperature",
}
"""Options by flag. As in all flags, dashes and underscores are equal."""

ANY_VALUE = ("*",)
_TRUE = ("True", "true", "1")


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """A flag without an equal option.

    flags: its spellings
    instead: what takes its place, for the message
    harmless: values with which ignoring it changes no result; they are ignored with a warning, others are refused
    jobs: those that take it; None for every job on a data set
    """

    flags: tuple[str, ...]
    instead: str
    harmless: tuple[str, ...] = ()
    jobs: frozenset[str] | None = None


_MOCO = frozenset({"pretrain_moco"})
_ROTATION = frozenset({"pretrain_rot"})

REPLACED = (
    Replaced(
        flags=("--gpu",),
        harmless=("0",),
        instead="a rank takes the GPU that it is given; CUDA_VISIBLE_DEVICES=N before the command chooses one",
    ),
    Replaced(
        flags=("-j", "--workers"),
        harmless=ANY_VALUE,
        instead="there are no loader processes; --threads sets the CPU threads of a rank",
    ),
    Replaced(
        flags=("-p", "--print_freq"),
        harmless=ANY_VALUE,
        instead="progress is shown all the time, and every epoch is a row of the live tables",
    ),
    Replaced(
        flags=("--start_epoch",),
        harmless=("0",),
        instead="--resume CKPT continues with the epoch after the checkpoint's",
    ),
    Replaced(flags=("--root_log",), harmless=ANY_VALUE, instead="logs are in the run's directory, below --runs_dir"),
    Replaced(
        flags=("--store_name",), instead="the options determine a run's name; --exp_str distinguishes runs of the same"
    ),
    Replaced(
        flags=("--data_filename",),
        instead="--unlabeled FILE names the file of unlabeled images, with its directory",
        jobs=frozenset({"gen_pseudolabels", "prepare", "train_semi"}),
    ),
    Replaced(
        flags=("--loss_type",),
        harmless=("CE", "Focal", "LDAM"),
        instead="the checkpoint says which classifier it has",
        jobs=frozenset({"gen_pseudolabels"}),
    ),
    Replaced(
        flags=("--loss_type",),
        harmless=("CE", "Focal", "LDAM"),
        instead="the angle of rotation is learned by cross-entropy",
        jobs=_ROTATION,
    ),
    Replaced(
        flags=("--train_rule",),
        harmless=("None",),
        instead="pre-training uses no labels, so it cannot re-balance their classes",
        jobs=_ROTATION,
    ),
    Replaced(flags=("-e", "--evaluate"), instead="rotation prediction is evaluated after every epoch", jobs=_ROTATION),
    Replaced(flags=("--mlp",), harmless=_TRUE, instead="the projection always has two layers", jobs=_MOCO),
    Replaced(flags=("--aug_plus",), harmless=_TRUE, instead="the views are always those of MoCo v2", jobs=_MOCO),
    Replaced(
        flags=("--cos",), harmless=_TRUE, instead="--lr_schedule chooses the schedule, by default cosine", jobs=_MOCO
    ),
    Replaced(
        flags=("--schedule",),
        instead="--lr_schedule steps lowers the rate after 80% and 90% of the epochs",
        jobs=_MOCO,
    ),
    Replaced(flags=("--rank",), harmless=("0",), instead="Spark or torchrun numbers the ranks", jobs=_MOCO),
    Replaced(flags=("--dist_url",), harmless=ANY_VALUE, instead="Spark or torchrun connects the ranks", jobs=_MOCO),
    Replaced(
        flags=("--dist_backend",),
        harmless=("nccl", "gloo"),
        instead="NCCL is used on GPUs and Gloo on CPUs",
        jobs=_MOCO,
    ),
    Replaced(
        flags=("--multiprocessing_distributed",),
        harmless=_TRUE,
        instead="--world_size N trains with N ranks",
        jobs=_MOCO,
    ),
    Replaced(flags=("--cfg",), instead="--config FILE takes a YAML file of Longtail's own options"),
    Replaced(flags=("--test",), instead="`longtail train -e --resume CKPT` evaluates a checkpoint"),
    Replaced(flags=("--test_open",), instead="there is no evaluation on images of unknown classes"),
    Replaced(
        flags=("--output_logits",), instead="`longtail evaluate` writes the probabilities of every image to a table"
    ),
    Replaced(flags=("--model_dir",), instead="--resume CKPT or --pretrained_model CKPT names the checkpoint itself"),
    Replaced(flags=("--save_feat",), instead="`longtail evaluate --features` writes the features of every image"),
    Replaced(
        flags=("--val_as_train",),
        instead="--list FILE names the training images: add the lines of the validation list to it",
    ),
)


def replaced_flags(job: str, *, known: frozenset[str]) -> list[Replaced]:
    """The entries of REPLACED that hold for a job on a data set; known: flags that it has as options."""
    return [
        entry
        for entry in REPLACED
        if (entry.jobs is None or job in entry.jobs) and not known.intersection(both_spellings(entry.flags))
    ]


def both_spellings(flags: tuple[str, ...]) -> list[str]:
    """The flags with underscores, and with dashes."""
    return list(dict.fromkeys([*flags, *(flag[:2] + flag[2:].replace("_", "-") for flag in flags)]))


def ignore_or_refuse(entry: Replaced, flag: str, value: str, *, prog: str) -> None:
    """Print a warning if ignoring the flag is harmless. Raises UserError otherwise.

    flag, value: as given; a flag without a value switches on what it names
    """
    given = f"{flag} {value}".rstrip()
    if entry.harmless == ANY_VALUE or (value or "True") in entry.harmless:
        print(f"{prog}: {given} has no effect: {entry.instead}", file=sys.stderr)
        return
    raise UserError(f"{given} is not an option of Longtail: {entry.instead}")
