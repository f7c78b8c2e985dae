"""--help and --help-all of every job: headings, examples that run, defaults that will apply, and a readable length."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

from longtail.conf.arguments import parse_options
from longtail.conf.networks import FOR_LARGE_IMAGES, FOR_SMALL_IMAGES
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.base import GROUPS, JobOptions, presentation
from longtail.conf.options.calibrate import CalibrateOptions
from longtail.conf.options.data import DataOptions
from longtail.conf.options.export import ExportOptions
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions, PredictOptions
from longtail.conf.options.live import DashboardOptions, MonitorOptions, RelayOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.prepare import PrepareOptions, StatsOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.runs import RunsOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.studies import ExperimentOptions, ReportOptions, TheoryOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cli import JOBS
from longtail.spark_jobs.cluster.connect import CONNECT_JOBS
from longtail.spark_jobs.package import PackageOptions
from tests.conftest import REPOSITORY

DATASETS = ("digits", "cifar10", "folder", "table", "image_list")
OPTIONS: list[type[JobOptions]] = [
    PrepareOptions, StatsOptions, PretrainRotOptions, PretrainMocoOptions, PretrainSimclrOptions, TrainOptions,
    TrainClassifierOptions, EvaluateOptions, PredictOptions, CalibrateOptions, ExportOptions,
    GenPseudolabelsOptions, TrainSemiOptions, MonitorOptions, RelayOptions, DashboardOptions, RunsOptions,
    AdviseOptions, ExperimentOptions, ReportOptions,
    TheoryOptions, PackageOptions, PipelineOptions,
]  # fmt: skip


def job_of(options_type: type[JobOptions]) -> str:
    return inspect.cleandoc(options_type.__doc__ or "").partition(":")[0]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Call with options and arguments: the text shown, in a terminal of 80 columns."""

    def show(options_type: type[JobOptions], arguments: str = "--help", columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as exit_status:
            parse_options(options_type, shlex.split(arguments), prog=f"longtail {job_of(options_type)}")
        assert exit_status.value.code == 0
        return capsys.readouterr().out

    return show


def default_of(text: str, flag: str) -> str | None:
    """The default that a help text shows for a flag."""
    entry = re.search(rf"^  (?:[^\n]*, )?{flag}\b.*?(?=^  \S|^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert entry, flag
    found = re.search(r"\(default (.*?)\)", " ".join(entry[0].split()))
    return found and found[1]


def test_every_job_has_its_options_here() -> None:
    assert {job_of(options_type) for options_type in OPTIONS} == set(JOBS)


@pytest.mark.parametrize("options_type", OPTIONS, ids=job_of)
def test_help_is_short_and_as_wide_as_the_terminal(help_of, options_type: type[JobOptions]) -> None:
    shown = help_of(options_type)
    assert len(shown.splitlines()) <= 130
    entries = [line for line in shown.splitlines() if not line.startswith("  longtail")]
    assert max(map(len, entries)) < 80
    assert len(help_of(options_type, columns=160).splitlines()) < len(shown.splitlines())


@pytest.mark.parametrize("options_type", OPTIONS, ids=job_of)
def test_help_all_shows_every_option_under_a_heading_and_help_points_to_it(
    help_of, options_type: type[JobOptions]
) -> None:
    fields = {name: field for name, field in options_type.model_fields.items() if name not in options_type.refused}
    everything = help_of(options_type, "--help-all")
    for name, field in fields.items():
        invocation = name.upper() if presentation(field).positional else f"--{name}"
        assert re.search(rf"^  (?:[^\n]*, )?{invocation}\b", everything, re.MULTILINE), name
    assert {presentation(field).group for field in fields.values()} <= set(GROUPS)
    hidden = [name for name, field in fields.items() if presentation(field).advanced]
    common = help_of(options_type)
    pointer = f"{len(hidden)} more options: longtail {job_of(options_type)} --help-all"
    assert (pointer in common) == bool(hidden) and "--help-all" in common
    assert "more options" not in everything


@pytest.mark.parametrize("options_type", OPTIONS, ids=job_of)
def test_the_examples_of_the_help_are_valid_command_lines(
    help_of, options_type: type[JobOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the examples of later jobs find when `longtail train` has run with its defaults: no best checkpoint, since it
    # needs --val_fraction.
    run = tmp_path / "runs" / "digits-resnet20-train-CE-None-imb0.05-e40-w1-seed0-0-0123abcd"
    run.mkdir(parents=True)
    (run / "ckpt.pth.tar").touch()
    (tmp_path / "my_images").mkdir()
    (tmp_path / "more_images").mkdir()
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    monkeypatch.chdir(tmp_path)
    assert 2 <= len(options_type.examples) <= 3
    shown = help_of(options_type)
    for arguments, effect in options_type.examples:
        assert f"  longtail {job_of(options_type)} {arguments}".rstrip() + "\n      " in shown
        assert effect.split()[0] in shown
        argv = [str(path) for word in shlex.split(arguments) for path in sorted(Path().glob(word)) or [word]]
        options = parse_options(options_type, argv, prog="longtail job")
        assert isinstance(options, options_type)
        if isinstance(options, TrainClassifierOptions) and options.method == "tau":
            # Without an exponent it is chosen on validation images, which the checkpoint's data set does not have.
            assert options.tau_norm is not None or options.val_fraction > 0


@pytest.mark.parametrize(
    ("options_type", "arguments", "expected"),
    [
        (
            TrainOptions,
            "--help",
            {"--epochs": "40", "--batch_size": "32", "--arch": "resnet20", "--imb_factor": "0.05"},
        ),
        (TrainOptions, "--dataset cifar10 --help", {"--epochs": "200", "--batch_size": "128", "--n_max": "5000"}),
        (TrainOptions, "-h --dataset=cifar10", {"--epochs": "200", "--arch": "resnet32", "--dataset": "digits"}),
        (TrainOptions, "--epochs 3 --help --no_such_flag", {"--epochs": "40"}),
        (TrainOptions, "--help --epochs", {"--epochs": "40"}),
        (PipelineOptions, "--dataset cifar10 --help", {"--n_max": "800", "--imb_factor_unlabel": "0.01"}),
        (TrainClassifierOptions, "--help", {"--epochs": "10", "--resume": None}),
        (TrainClassifierOptions, "--method tau --help", {"--epochs": "1"}),
        (EvaluateOptions, "--help", {"--dataset": "that of the checkpoint", "--imb_factor": "that of the checkpoint"}),
        (EvaluateOptions, "--dataset cifar10 --help", {"--dataset": "digits", "--imb_factor": "0.01"}),
        (TrainSemiOptions, "--help", {"--unlabeled_ratio": None, "--rounds": "1", "--confidence_threshold": "0"}),
        (
            TrainSemiOptions,
            "--semi_method fixmatch --balancing CReST+ --help",
            {"--unlabeled_ratio": "7", "--rounds": "6", "--confidence_threshold": "0.95"},
        ),
        (TrainOptions, "--help-all", {"--many_shot": "20", "--momentum": "0.9", "--nesterov": None}),
    ],
)
def test_help_shows_the_defaults_that_will_apply(
    help_of, options_type: type[JobOptions], arguments: str, expected: dict[str, str | None]
) -> None:
    shown = help_of(options_type, arguments)
    assert {flag: default_of(shown, flag) for flag in expected} == expected


def test_help_shows_the_defaults_of_the_data_set_in_the_config_file(help_of, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text("dataset: cifar10\n")
    shown = help_of(TrainOptions, f"--config {tmp_path / 'options.yaml'} --help")
    assert default_of(shown, "--epochs") == "200"
    assert "Defaults are those for --dataset cifar10" in shown


def test_the_shown_default_is_the_one_that_is_taken(help_of) -> None:
    for dataset in ("digits", "cifar10", "svhn"):
        options = parse_options(TrainOptions, ["--dataset", dataset], prog="longtail train")
        shown = help_of(TrainOptions, f"--dataset {dataset} --help-all")
        for name in ("epochs", "batch_size", "n_max", "imb_factor", "many_shot", "threads"):
            value = getattr(options, name)
            assert default_of(shown, f"--{name}") == (None if value is None else f"{value:g}"), (dataset, name)


def test_a_required_option_comes_first_and_is_in_the_usage(help_of) -> None:
    shown = help_of(GenPseudolabelsOptions)
    assert shown.startswith("usage: longtail gen_pseudolabels --resume FILE [OPTIONS]\n")
    assert re.search(r"^Input:\n  --resume FILE +checkpoint of the classifier \(required\)", shown, re.MULTILINE)
    assert shown.index("Input:") < shown.index("Method:") < shown.index("Data set:")


def test_an_option_with_a_few_words_to_choose_from_lists_them(help_of) -> None:
    shown = " ".join(help_of(TrainOptions).split())
    assert "--imb_type exp|step|pareto|natural" in shown
    losses = "CE, Focal, FocalNormalised, LDAM, BalancedSoftmax or LogitAdjusted"
    assert f"--loss_type NAME {losses}: loss, or package.module:function (default CE)" in shown


def test_the_help_of_networks_says_which_are_for_small_images(help_of) -> None:
    shown = " ".join(help_of(TrainOptions).split())
    small, large = ", ".join(FOR_SMALL_IMAGES), ", ".join(FOR_LARGE_IMAGES)
    assert f"--arch NAME network; small images: {small}; large: {large}; timm:NAME; " in shown


def test_an_option_has_one_default_in_words_or_as_a_number(help_of) -> None:
    by_dataset = {name: " ".join(help_of(TrainOptions, f"--dataset {name} --help-all").split()) for name in DATASETS}
    assert "--threads N CPU threads per rank (default 1)" in by_dataset["digits"]
    assert "--threads N CPU threads per rank; default: an equal share of the cores --" in by_dataset["cifar10"]
    words = "are scaled when loaded; default: 32, or 224 for --dataset image_list --"
    assert words in by_dataset["digits"] and words in by_dataset["cifar10"] and words in by_dataset["image_list"]
    assert "are scaled when loaded (default 32)" in by_dataset["folder"]
    assert "are scaled when loaded (default 32)" in by_dataset["table"]


def test_remote_is_in_the_help_of_the_jobs_that_run_over_spark_connect_alone(help_of) -> None:
    with_remote = {job_of(options) for options in OPTIONS if "--remote" in help_of(options, "--help-all")}
    assert with_remote == set(CONNECT_JOBS)


def test_two_thresholds_of_pseudo_labels_name_each_other(help_of) -> None:
    assert "--confidence_threshold" in help_of(GenPseudolabelsOptions)
    assert "gen_pseudolabels --threshold" in " ".join(help_of(TrainSemiOptions).split())


def test_a_description_of_an_option_is_a_phrase_without_a_full_stop() -> None:
    for options_type in (*OPTIONS, DataOptions):
        for name, field in options_type.model_fields.items():
            assert field.description and not field.description.endswith("."), name
