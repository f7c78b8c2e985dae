"""`did you mean`: which known name an unknown one resembles, in options and YAML files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from longtail.conf.arguments import parse_options
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.experiment import read_experiment
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.options.live import MonitorOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.theory_grid import read_grid
from longtail.streaming.alerts.rules_file import read_alert_rules
from tests.refusals import refused

RULES = ("None", "Resample", "Reweight", "DRW", "ClassBalanced", "SquareRoot", "ProgressivelyBalanced", "DRS")
EXPERIMENT = "title: t\nseeds: [0]\naxes: {rule: {CE: {}, DRW: {train_rule: DRW}}}\n"
SWEEP = "name: a, theorem: T1, repetitions: 5"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("DWR", "DRW"), ("DSR", "DRS"), ("RDW", "DRW"), ("drw", "DRW"), ("DRWs", "DRW"), ("XRW", "DRW"),
        ("class-balanced", "ClassBalanced"), ("Resmaple", "Resample"),
    ],
)  # fmt: skip
def test_a_word_with_two_letters_swapped_or_one_wrong_is_recognised(word: str, meant: str) -> None:
    assert did_you_mean(word, RULES) == f" (did you mean {meant}?)"


@pytest.mark.parametrize("word", ["LDAM", "CB", "x", "", "focal"])
def test_a_word_that_resembles_nothing_has_no_suggestion(word: str) -> None:
    assert did_you_mean(word, RULES) == ""


def test_the_same_letters_come_before_fewer_differences() -> None:
    assert did_you_mean("resnet23", ["resnet20", "resnet32", "resnet34"]) == " (did you mean resnet32?)"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("--train_rule DWR", "DRW"),
        ("--imb_type epx", "exp"),
        ("--imb_factor_unlabel 1 --semi_method fixmatch --balancing ACB", "ABC"),
        ("--imb_factor_unlabel 1 --semi_method fixmatch --unlabeled_shares estimate", "estimated"),
        ("--dataset cifar01", "cifar10"),
        ("--arch resnet23", "resnet32"),
        ("--tain_rule DRW", "--train_rule"),
    ],
)
def test_a_misspelled_option_or_value_names_what_was_meant(arguments: str, meant: str) -> None:
    with refused() as messages:
        parse_options(TrainSemiOptions, arguments.split(), prog="longtail train_semi")
    assert f"(did you mean {meant}?)" in messages[0]


@pytest.mark.parametrize(
    ("read", "content", "complaint"),
    [
        (read_experiment, EXPERIMENT + "pretrainig: {}", "pretrainig: unknown key (did you mean pretraining?)"),
        (read_experiment, EXPERIMENT + "options: {pretraining_job: pretrain_rto}", "(did you mean pretrain_rot?)"),
        (read_experiment, EXPERIMENT + "shown: [{rule: DWR}]", "rule: DWR, which no axis has (did you mean DRW?)"),
        (read_experiment, EXPERIMENT + "shown: [{rul: DRW}]", "rul: DRW, which no axis has (did you mean rule?)"),
        (read_grid, f"sweeps: [{{{SWEEP}, plot: threshold_bais, parameters: {{}}}}]", "(did you mean threshold_bias?)"),
        (read_grid, f"sweeps: [{{{SWEEP}, paramters: {{}}}}]", "(did you mean parameters?)"),
        (read_grid, f"sweeps: [{{{SWEEP}, parameters: {{sigam: 1}}}}]", "(did you mean sigma?)"),
        (read_alert_rules, "plateua: {epochs: 3}", "plateua: unknown key (did you mean plateau?)"),
        (read_alert_rules, "plateau: {epochs: 3, gian: 0.1}", "plateau.gian: unknown key (did you mean gain?)"),
    ],
)
def test_a_misspelled_key_or_name_in_a_yaml_file_names_what_was_meant(
    read: Callable[[Path], object], content: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(content)
    with refused() as messages:
        read(file)
    assert complaint in messages[0]


def test_a_misspelled_value_in_an_options_file_names_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("train_rule: DWR\n")
    with refused() as messages:
        parse_options(TrainOptions, ["--config", str(file)], prog="longtail train")
    assert "(did you mean DRW?)" in messages[0]


def test_a_misspelled_split_names_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "ckpt").touch()
    with refused() as messages:
        parse_options(EvaluateOptions, ["--resume", str(tmp_path / "ckpt"), "--splits", "val,tset"], prog="longtail")
    assert "there is no split 'tset' (did you mean test?)" in messages[0]


def test_a_value_of_another_form_is_told_the_form_in_words() -> None:
    with refused() as messages:
        parse_options(MonitorOptions, ["--trigger", "1 sec"], prog="longtail monitor")
    assert "--trigger 1 sec: a number of milliseconds or seconds, as '2 seconds', was expected" in messages[0]
