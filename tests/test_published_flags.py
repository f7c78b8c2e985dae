"""Every flag of the published scripts: an option, or a warning that it has no effect, or a line on what replaces it."""

import re
from typing import Any

import pytest

from longtail.conf.arguments import given_values
from longtail.conf.base.errors import UserError
from longtail.conf.command_line.published_flags import ALIASES, REPLACED, both_spellings
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import JobOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.live import MonitorOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from tests.refusals import refused

# What a script takes, as spelled there with a value, and the option that it sets; or IGNORED or REFUSED.
IGNORED, REFUSED = "ignored", "refused"

OF_EVERY_TRAINING = {
    "--dataset cifar10": "dataset", "--data_path data": "data_dir", "-a resnet32": "arch", "--arch resnet32": "arch",
    "--imb_type exp": "imb_type", "--imb_factor 0.02": "imb_factor", "--rand_number 1": "rand_number",
    "--exp_str ss_pretrained": "exp_str", "--gpu 0": IGNORED, "--gpu 1": REFUSED, "-j 4": IGNORED,
    "--workers 4": IGNORED, "--epochs 200": "epochs", "--start-epoch 0": IGNORED, "--start-epoch 7": REFUSED,
    "-b 128": "batch_size", "--batch-size 128": "batch_size", "--lr 0.1": "learning_rate",
    "--learning-rate 0.1": "learning_rate", "--momentum 0.8": "momentum", "--wd 2e-4": "weight_decay",
    "--weight-decay 2e-4": "weight_decay", "-p 10": IGNORED, "--print-freq 10": IGNORED, "--resume ckpt": "resume",
    "--seed 1": "seed", "--root_log log": IGNORED, "--root_model checkpoint": "runs_dir", "--store_name a": REFUSED,
}  # fmt: skip
OF_EVERY_SUPERVISED_TRAINING = {
    **OF_EVERY_TRAINING, "--loss_type LDAM": "loss_type", "--train_rule DRW": "train_rule",
    "--pretrained_model ckpt": "pretrained_model", "-e": "evaluate", "--evaluate": "evaluate",
}  # fmt: skip
OF_IMAGENET = {
    "--cfg a.yaml": REFUSED, "--test": REFUSED, "--batch_size 512": "batch_size", "--test_open": REFUSED,
    "--output_logits True": REFUSED, "--model_dir dir": REFUSED, "--save_feat test": REFUSED,
    "--val_as_train": REFUSED,
}  # fmt: skip
SCRIPTS: list[tuple[type[JobOptions], dict[str, str]]] = [
    (TrainOptions, {**OF_EVERY_SUPERVISED_TRAINING, **OF_IMAGENET}),
    (TrainClassifierOptions, OF_IMAGENET),
    (TrainSemiOptions, {**OF_EVERY_SUPERVISED_TRAINING, "--imb_factor_unlabel 0.02": "imb_factor_unlabel"}),
    (
        PretrainRotOptions,
        {
            **OF_EVERY_TRAINING, "--loss_type CE": IGNORED, "--train_rule None": IGNORED,
            "--train_rule Resample": REFUSED, "-e": REFUSED, "--evaluate": REFUSED,
        },
    ),
    (
        PretrainMocoOptions,
        {
            "--dataset cifar10": "dataset", "--data data": "path", "--root_path out": "runs_dir", "-a resnet50": "arch",
            "-j 32": IGNORED, "--epochs 200": "epochs", "--start-epoch 0": IGNORED, "-b 128": "batch_size",
            "--lr 0.015": "learning_rate", "--schedule 120 160": REFUSED, "--momentum 0.9": "momentum",
            "--wd 1e-4": "weight_decay", "-p 50": IGNORED, "--resume ckpt": "resume", "--world-size 2": "world_size",
            "--rank 0": IGNORED, "--rank 1": REFUSED, "--dist-url tcp://localhost:10001": IGNORED,
            "--dist-backend nccl": IGNORED, "--dist-backend mpi": REFUSED, "--seed 1": "seed", "--gpu 0": IGNORED,
            "--multiprocessing-distributed True": IGNORED, "--multiprocessing-distributed": IGNORED,
            "--moco-dim 64": "projection_dim", "--moco-k 256": "queue_size", "--moco-m 0.99": "key_momentum",
            "--moco-t 0.1": "temperature", "--mlp True": IGNORED, "--mlp": IGNORED, "--mlp False": REFUSED,
            "--aug-plus": IGNORED, "--aug-plus 0": REFUSED, "--cos True": IGNORED, "--cos False": REFUSED,
        },
    ),
    (
        GenPseudolabelsOptions,
        {
            "--dataset svhn": "dataset", "-a resnet32": "arch", "--loss_type LDAM": IGNORED, "--gpu 0": IGNORED,
            "--resume ckpt": "resume", "--data_dir data": "data_dir", "--data_filename a.pickle": REFUSED,
            "--output_dir data": "output_dir", "--output_filename a.pickle": "output_filename",
        },
    ),
]  # fmt: skip
CASES = [
    pytest.param(options_type, flag, outcome, id=f"{options_type.__name__} {flag}")
    for options_type, flags in SCRIPTS
    for flag, outcome in flags.items()
]


def parsed(options_type: type[JobOptions], argument: str) -> dict[str, Any]:
    return given_values(options_type, argument.split(), prog="longtail job")


@pytest.mark.parametrize(("options_type", "argument", "outcome"), CASES)
def test_a_flag_is_an_option_or_has_no_effect_or_is_replaced(
    options_type: type[JobOptions], argument: str, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if outcome == REFUSED:
        with refused() as messages:
            parsed(options_type, argument)
        assert re.fullmatch(rf"{argument} is not an option of Longtail: .+", messages[0])
        return
    values, said = parsed(options_type, argument), capsys.readouterr().err
    if outcome == IGNORED:
        assert values == {}
        assert re.fullmatch(rf"longtail job: {argument} has no effect: .+\n", said)
    else:
        value = argument.partition(" ")[2]
        assert values == {outcome: value or True} and said == ""


def test_every_entry_of_the_tables_is_tried() -> None:
    tried = {argument.split()[0] for _, flags in SCRIPTS for argument in flags}
    assert all(tried & set(both_spellings((flag,))) for flag in ALIASES)
    assert all(tried & set(both_spellings(entry.flags)) for entry in REPLACED)


def test_what_takes_a_flag_s_place_is_there() -> None:
    """Each option that an entry names in its message is one of a job on a data set."""
    options = {f"--{name}" for options_type, _ in SCRIPTS for name in options_type.model_fields} | {
        "--config",
        "--list",
    }
    for entry in REPLACED:
        assert set(re.findall(r"--\w+", entry.instead)) <= options, entry


def test_another_value_is_the_value_of_its_flag_and_not_an_argument_on_its_own() -> None:
    values = parsed(PretrainMocoOptions, "--mlp --aug-plus --cos True --moco-k 16 -p 50 --epochs 3")
    assert values == {"queue_size": "16", "epochs": "3"}


def test_a_job_without_a_data_set_has_none_of_them() -> None:
    with refused() as messages:
        parsed(MonitorOptions, "--gpu 0")
    assert messages[0].startswith("unknown option --gpu")


@pytest.mark.parametrize("dataset", ["imagenet", "inat"])
def test_data_sets_of_lists_are_named_by_the_options_that_take_lists(dataset: str) -> None:
    with pytest.raises(UserError, match="this one comes as lists: --dataset image_list --path DIR --list FILE"):
        dataset_facts(dataset)
