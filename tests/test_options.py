"""Options: every spelling of a flag, which value goes first, what is refused and how, and what names a set or a run."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from longtail.conf.arguments import options_for, parse_options, resolve_options
from longtail.conf.datasets import dataset_facts, known_datasets
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.base import JobOptions
from longtail.conf.options.fixmatch import FixMatchOptions
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions
from longtail.conf.options.live import DashboardOptions, MonitorOptions, RelayOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.prepare import PrepareOptions, StatsOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.source import OWN_IMAGES
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.sources.registry import SOURCES
from tests.refusals import refused


def train_options(command_line: str = "") -> TrainOptions:
    return parse_options(TrainOptions, shlex.split(command_line), prog="longtail train")


def refusal(options_type: type[JobOptions], command_line: str) -> str:
    """The message with which a command line is refused."""
    with refused() as messages:
        parse_options(options_type, shlex.split(command_line), prog="longtail job")
    return messages[0]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Path of an options file that the test writes."""
    return tmp_path / "options.yaml"


@pytest.mark.parametrize(
    ("command_line", "name", "value"),
    [
        ("-b 16", "batch_size", 16),
        ("-b16", "batch_size", 16),
        ("--batch-size 16", "batch_size", 16),
        ("--batch_size 16", "batch_size", 16),
        ("--batch_size=16", "batch_size", 16),
        ("--batch-size=16", "batch_size", 16),
        ("--imb-factor 0.5", "imb_factor", 0.5),
        ("--lr 0.5", "learning_rate", 0.5),
        ("--learning-rate 0.5", "learning_rate", 0.5),
        ("--learning_rate 0.5", "learning_rate", 0.5),
        ("--wd 1e-3", "weight_decay", 0.001),
        ("--weight-decay 1e-3", "weight_decay", 0.001),
        ("--weight_decay 1e-3", "weight_decay", 0.001),
        ("-a resnet44", "arch", "resnet44"),
        ("--arch resnet44", "arch", "resnet44"),
        ("--train_rule None", "train_rule", "None"),
        ("--loss_type LDAM", "loss_type", "LDAM"),
        ("--imb_type step", "imb_type", "step"),
        ("--epochs 3 --epochs 4", "epochs", 4),
    ],
)
def test_every_spelling_of_a_flag_sets_its_option(command_line: str, name: str, value: Any) -> None:
    assert getattr(train_options(command_line), name) == value


@pytest.mark.parametrize(("flag", "evaluate"), [("-e", True), ("--evaluate", True), ("", False)])
def test_a_checkpoint_is_either_resumed_or_evaluated(tmp_path: Path, flag: str, evaluate: bool) -> None:
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    options = train_options(f"{flag} --resume {checkpoint}")
    assert (options.evaluate, options.resume) == (evaluate, checkpoint)


def test_flags_override_the_config_file_and_that_overrides_the_data_set(config: Path) -> None:
    config.write_text("batch_size: 64\nn_max: 30\n")
    options = train_options(f"--dataset digits --config {config} -b 16")
    assert options.batch_size == 16  # 64 in the file
    assert options.n_max == 30  # 40 for digits
    assert options.epochs == 40  # digits; 200 by itself
    assert options.learning_rate == 0.1  # said by nobody


def test_a_data_set_that_the_config_file_names_brings_its_defaults(config: Path) -> None:
    config.write_text("dataset: cifar10\n")
    assert train_options(f"--config {config}").n_max == 5000
    assert train_options(f"--config {config} --dataset digits").n_max == 40


@pytest.mark.parametrize(
    ("options_type", "dataset", "expected"),
    [
        (
            TrainOptions,
            "digits",
            {"imb_factor": 0.05, "n_max": 40, "arch": "resnet20", "epochs": 40, "batch_size": 32, "many_shot": 20}
            | {"few_shot": 5, "imb_factor_unlabel": None},
        ),
        (
            TrainOptions,
            "cifar10",
            {"imb_factor": 0.01, "n_max": 5000, "arch": "resnet32", "epochs": 200, "batch_size": 128, "many_shot": 100}
            | {"few_shot": 20, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 2e-4},
        ),
        (TrainSemiOptions, "cifar10 --imb_factor_unlabel 1", {"batch_size": 256, "unlabeled_weight": 1.0}),
        (PipelineOptions, "cifar10", {"n_max": 800, "imb_factor_unlabel": 0.01, "epochs": 200}),
        (PipelineOptions, "digits", {"n_max": 40, "imb_factor_unlabel": 1.0, "epochs": 40}),
        (PipelineOptions, "cifar10 --n_max 700", {"n_max": 700}),
        # prepare has no network: the data set's arch must not be an unknown option of it.
        (PrepareOptions, "digits", {"n_max": 40}),
    ],
)
def test_a_data_set_brings_its_defaults(
    options_type: type[JobOptions], dataset: str, expected: dict[str, object]
) -> None:
    options = parse_options(options_type, shlex.split(f"--dataset {dataset}"), prog="longtail job")
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("command_line", "named"),
    [
        ("--epochs 0", "--epochs 0: input should be greater than 0"),
        ("--epochs -3", "--epochs -3"),
        ("--epochs 1.5", "--epochs 1.5"),
        ("--epochs many", "--epochs many"),
        ("--epochs ''", "--epochs"),
        ("--epochs", "--epochs"),
        ("--lr 0", "--learning_rate 0"),
        ("--lr fast", "--learning_rate fast"),
        ("--lr inf", "--learning_rate inf"),
        ("--lr nan", "--learning_rate nan"),
        ("--wd -1", "--weight_decay -1"),
        ("--momentum 1", "--momentum 1"),
        ("--batch-size 0", "--batch_size 0"),
        ("--seed -1", "--seed -1"),
        ("--seed 9223372036854775808", "--seed 9223372036854775808"),
        ("--world_size 0", "--world_size 0"),
        ("--imb_factor 0", "--imb_factor 0"),
        ("--imb_factor 1.1", "--imb_factor 1.1"),
        ("--imb_factor_unlabel 0", "--imb_factor_unlabel 0"),
        ("--unlabel_size_factor inf", "--unlabel_size_factor inf"),
        ("--n_max 0", "--n_max 0"),
        ("--val_fraction 1", "--val_fraction 1"),
        ("--dataset folder", "--dataset folder needs --path"),
        (
            "--dataset digits --path /",
            "--path goes with --dataset folder, image_list, table, not with digits: add --dataset folder",
        ),
        ("--dataset folder --path /no/such", "--path /no/such: there is no such directory"),
        (
            f"--dataset folder --path {__file__}",
            "test_options.py is not a directory: a directory of images was expected",
        ),
        ("--dataset table", "--dataset table needs --path"),
        ("--dataset table --path / --test_path /no/such", "--test_path /no/such: there is no such directory or file"),
        ("--test_path /", "--test_path goes with --dataset folder or table"),
        (
            "--dataset image_list --path / --list setup.py --val_path /",
            "--val_path goes with --dataset folder or table",
        ),
        (
            "--dataset folder --path / --val_path /etc/hosts",
            "/etc/hosts is not a directory: a directory of",
        ),
        ("--dataset table --path / --layout train", "--layout goes with --dataset folder"),
        ("--dataset folder --path / --layout val", "--layout"),
        ("--val_list setup.py", "--test_list and --val_list go with --list"),
        ("--dataset image_list --path /", "--dataset image_list and --list FILE go together"),
        ("--dataset image_list --path / --list /no/such", "--list_file /no/such: there is no such file"),
        ("--test_list /", "--test_list_file /: there is no such file"),
        ("--relevance 0.5", "--relevance below 1 and --irrelevant_dataset NAME go together"),
        ("--irrelevant_dataset svhn", "--relevance below 1 and --irrelevant_dataset NAME go together"),
        ("--relevance 0.5 --irrelevant_dataset svhn", "give --imb_factor_unlabel"),
        ("--irrelevant_dataset imagenet", "unknown data set 'imagenet'"),
        ("--relevance .5 --imb_factor_unlabel 1 --irrelevant_dataset digits", "is the data set itself"),
        ("--num_classes 1", "--num_classes 1"),
        ("--dataset folder --path / --num_classes 3", "--num_classes is not for --dataset folder"),
        ("--relevance 0", "--relevance 0"),
        ("--counts 3,x", "--counts 3,x: give at least two numbers, separated by commas: 50,30,10"),
        ("--counts 3", "--counts 3: give at least two numbers"),
        ("--few_shot 30", "--few_shot 30 must be at most --many_shot 20 + 1"),
        ("--dataset imagenet", "unknown data set 'imagenet': choose one of cifar10, cifar100, cifar100_coarse, digits"),
        ("--imb_factor 100", "it is at most 1, the smallest class over the largest: for rho = 100 give 0.01"),
        ("--imb_type linear", "'exp', 'step', 'pareto' or 'natural'"),
        ("--imb_type stpe", "'pareto' or 'natural' (did you mean step?)"),
        ("-a resnet19", "--arch resnet19"),
        (
            "--loss_type ce",
            "'CE', 'Focal', 'FocalNormalised', 'LDAM', 'BalancedSoftmax' or 'LogitAdjusted', or "
            "package.module:function (did you mean CE?)",
        ),
        ("--train_rule drw", "'None', 'Resample', 'Reweight', 'DRW', 'ClassBalanced'"),
        ("--exp_str a/b", "--exp_str a/b"),
        ("--exp_str 'two\nlines'", "--exp_str two lines"),
        ("-e", "name it with --resume"),
        ("--resume no/such.pt", "--resume no/such.pt: there is no such file"),
        ("--pretrained_model /", "--pretrained_model /: there is no such file"),
        ("--no_such_option 3", "unknown option --no_such_option; see longtail job --help"),
        ("--epoch 3", "unknown option --epoch (did you mean --epochs?); see longtail job --help"),
        ("--imb_facto=0.1", "unknown option --imb_facto (did you mean --imb_factor?)"),
        ("--hlep", "unknown option --hlep (did you mean --help?)"),
        ("'a\nb'", "unexpected argument 'a\\nb': every value follows its flag"),
        ("stray", "unexpected argument 'stray'"),
        ("--config /no/such/options.yaml", "/no/such/options.yaml: No such file"),
        ("--config /", "/: it is not a regular file"),
        ("--epochs 0 --lr 0", "--epochs 0"),
        ("--epochs 0 --lr 0", "--learning_rate 0"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_it(command_line: str, named: str) -> None:
    assert named in refusal(TrainOptions, command_line)


def test_a_pattern_that_matched_several_files_is_refused_by_their_names(tmp_path: Path) -> None:
    """The shell puts all of them behind the flag."""
    first, second = tmp_path / "a.tar", tmp_path / "b.tar"
    for file in (first, second):
        file.touch()
    message = refusal(GenPseudolabelsOptions, f"--resume {first} {second} --dataset digits")
    expected = f"--resume takes one file, and got {first}, {second} (a pattern, such as *, gives all that match)"
    assert message == f"{expected}: name one of them; see longtail job --help"


@pytest.mark.parametrize(
    ("options_type", "command_line", "named"),
    [
        (GenPseudolabelsOptions, "", "--resume is required: checkpoint of the classifier"),
        (GenPseudolabelsOptions, "--resume no/such.pt", "--resume no/such.pt: there is no such file"),
        (GenPseudolabelsOptions, "--resume c --output_filename ../x", "--output_filename ../x"),
        (GenPseudolabelsOptions, f"--resume {__file__} --align 1.5", "--align 1.5"),
        (GenPseudolabelsOptions, f"--resume {__file__} --threshold 1.5", "--threshold 1.5"),
        (GenPseudolabelsOptions, f"--resume {__file__} --top_k 0", "--top_k 0"),
        (
            GenPseudolabelsOptions,
            f"--resume {__file__} --top_k 5 --output_filename x.pickle",
            "the published layout has a plain label for every image",
        ),
        (EvaluateOptions, "", "--resume is required: checkpoint to evaluate"),
        (EvaluateOptions, f"--resume {__file__} --splits tests", "--splits tests"),
        (EvaluateOptions, f"--resume {__file__} --splits val,", "--splits val,"),
        (TrainSemiOptions, "", "--imb_factor_unlabel is required"),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --confidence_threshold 1.5", "--confidence_threshold 1.5"),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --confidence_threshold .5,2", "a threshold is a number from 0 to 1"),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --confidence_threshold .5,", "numbers separated by commas"),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --unlabeled_ratio 0", "--unlabeled_ratio 0"),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --rounds 0", "--rounds 0"),
        (
            TrainSemiOptions,
            f"--imb_factor_unlabel 1 --pseudo_label_type soft --pseudo_labels {__file__}",
            "test_options.py has no probabilities: --pseudo_label_type soft needs a table",
        ),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --pseudo_labels no/such", "there is no such table or file"),
        (
            TrainSemiOptions,
            f"--imb_factor_unlabel 1 --confidence_threshold 0.5 --pseudo_labels {__file__}",
            "test_options.py has no confidences: leave out --confidence_threshold",
        ),
        (TrainSemiOptions, "--imb_factor_unlabel 1 --unlabeled_weight 0", "--unlabeled_weight 0"),
        (StatsOptions, "--labels no/such", "--labels no/such: there is no such table"),
        (StatsOptions, "--labels / --pseudo_labels /", "--pseudo_labels belong to a prepared set"),
        (
            GenPseudolabelsOptions,
            f"--resume {__file__} --format csv",
            "--format csv: input should be 'parquet' or 'delta'",
        ),
        (PrepareOptions, "--format csv", "--format csv: input should be 'parquet' or 'delta'"),
        (AdviseOptions, "", "--unlabeled is required: the unlabeled images (or --imb_factor_unlabel)"),
        (AdviseOptions, "--labelled no/such --unlabeled x", "--labelled no/such: there is no such directory or file"),
        (AdviseOptions, "--unlabeled x --val_fraction 0", "give --val_fraction (0.2), with --resume a checkpoint"),
        (MonitorOptions, "--trigger soon", "--trigger soon"),
        (MonitorOptions, "--dataset digits", "--dataset"),
        (DashboardOptions, "--port 65536", "--port 65536"),
        (DashboardOptions, "--tables_dir no/such", "--tables_dir no/such: there is no such directory"),
        (DashboardOptions, "--tables_dir / --output_dir x", "--tables_dir shows the tables of a monitor"),
        (
            DashboardOptions,
            "--tables_dir / --source kafka --bootstrap_servers h:1",
            "--tables_dir shows the tables of a monitor",
        ),
        (DashboardOptions, "--source kafka", "--source kafka and --bootstrap_servers HOST:PORT go together"),
        (MonitorOptions, "--format csv", "--format csv: input should be 'parquet' or 'delta'"),
        (MonitorOptions, "--source kafka", "--source kafka and --bootstrap_servers HOST:PORT go together"),
        (MonitorOptions, "--bootstrap_servers h:1", "--source kafka and --bootstrap_servers HOST:PORT go together"),
        (RelayOptions, "", "--bootstrap_servers is required"),
        (RelayOptions, "--bootstrap_servers h:1 --topic 'a b'", "--topic a b"),
        (PretrainRotOptions, "--loss_type BalancedSoftmax", "--loss_type"),
    ],
)
def test_other_jobs_refuse_bad_values_too(options_type: type[JobOptions], command_line: str, named: str) -> None:
    assert named in refusal(options_type, command_line)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("epochs: 3\nepoch: 4", "unknown option 'epoch' (did you mean epochs?); longtail job --help-all lists"),
        ("imb-facto: 0.1", "unknown option 'imb-facto' (did you mean imb_factor?)"),
        ("1: a\nfoo: b", "unknown option 1; longtail job --help-all"),
        ("lr: 0.5\nlearning_rate: 0.5", "learning_rate sets learning_rate a second time: keep one of them"),
        ("config: other.yaml", "unknown option 'config'"),
        ("epochs: 1.5", "--epochs 1.5"),
        ("epochs: null", "--epochs None"),
        ("epochs: [1, 2]", "--epochs [1, 2]"),
        ("train_rule: null", "--train_rule None"),
        ("imb_factor: |\n  a\n\n  b", "--imb_factor a b"),
        ("evaluate: perhaps", "--evaluate perhaps"),
        ("dataset: [digits]", "unknown data set"),
        ("", "holds a NoneType, options as 'name: value' lines were expected"),
        ("- epochs", "holds a list, options"),
        ("epochs: 3: 4", "is not YAML"),
        ("? [a]\n: b", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_bad_config_file_is_refused_in_one_line_that_says_why(config: Path, content: str, named: str) -> None:
    config.write_text(content)
    assert named in refusal(TrainOptions, f"--config {config}")


@pytest.mark.parametrize("key", ["b", "batch_size", "batch-size"])
def test_a_key_of_a_config_file_may_be_any_spelling_of_the_flag(config: Path, key: str) -> None:
    config.write_text(f"{key}: 24\nlr: 0.5\nwd: 0.01\na: resnet44\n")
    options = train_options(f"--config {config}")
    assert (options.batch_size, options.learning_rate, options.weight_decay) == (24, 0.5, 0.01)
    assert options.arch == "resnet44"


def test_a_config_file_that_is_not_text_is_refused(config: Path) -> None:
    config.write_bytes(b"\xff\xfe\xfa")
    assert str(config) in refusal(TrainOptions, f"--config {config}")


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        train_options().epochs = 3


def test_the_set_name_changes_with_every_parameter_of_the_content() -> None:
    base = "--dataset cifar10"
    unlabeled = f"{base} --imb_factor_unlabel 1"
    variants = [
        base,
        "--dataset digits --imb_factor 0.01 --n_max 5000",
        f"{base} --imb_type step",
        f"{base} --imb_factor 0.02",
        # Alike in the readable part of the name, which shows six digits.
        f"{base} --imb_factor 0.010000001",
        f"{base} --n_max 4000",
        f"{base} --val_fraction 0.1",
        f"{base} --rand_number 1",
        unlabeled,
        f"{base} --imb_factor_unlabel 0.5",
        f"{unlabeled} --unlabel_size_factor 4",
        f"{unlabeled} --unlabeled images",
        f"{unlabeled} --keep_labelled_copies",
        f"{unlabeled} --relevance 0.5 --irrelevant_dataset cifar100",
        f"{unlabeled} --relevance 0.6 --irrelevant_dataset cifar100",
        f"{unlabeled} --relevance 0.5 --irrelevant_dataset svhn",
        f"{base} --num_classes 7",
        f"{unlabeled} --num_classes 7 --relevance 0.5 --irrelevant_dataset cifar10",
        f"{base} --unlabeled images",
        f"{base} --imb_type pareto",
        f"{base} --imb_type natural",
        f"{base} --counts 3,2",
        f"{base} --counts 3,1",
        "--dataset folder --path /",
        "--dataset folder --path /tmp",
        "--dataset folder --path / --image_size 16",
        "--dataset folder --path / --test_fraction 0.5",
        "--dataset folder --path / --on_bad_image skip",
        "--dataset table --path /",
        "--dataset table --path / --image_column picture",
        "--dataset table --path / --label_column kind",
        "--dataset table --path / --test_path /tmp",
        "--dataset table --path / --val_path /tmp",
        "--dataset folder --path / --test_path /tmp",
        "--dataset folder --path / --val_path /tmp",
        "--dataset folder --path / --layout train_val",
        "--dataset table --path / --test_fraction 0.5",
    ]
    names = [train_options(variant).set_name() for variant in variants]
    assert len(set(names)) == len(variants)


@pytest.mark.parametrize(
    "same",
    [
        "--imb_factor 1e-2",
        "--data_dir elsewhere",
        "--runs_dir elsewhere",
        "--master local[2]",
        "--verbose",
        "--epochs 3",
        "--many_shot 50",
        "--few_shot 10",
        # They are for images of the user's own.
        "--image_size 16",
        "--on_bad_image skip",
        # Without an unlabeled part its size says nothing.
        "--unlabel_size_factor 4",
        "--keep_labelled_copies",
    ],
)
def test_the_set_name_does_not_change_with_what_leaves_the_content_alone(same: str) -> None:
    assert train_options(f"--dataset cifar10 {same}").set_name() == train_options("--dataset cifar10").set_name()


def test_places_of_the_same_relative_name_make_different_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for directory in ("a", "b"):
        (tmp_path / directory / "images").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / directory)
        names.add(train_options("--dataset cifar10 --unlabeled images").set_name())
        names.add(train_options("--dataset folder --path images").set_name())
    assert len(names) == 4


@pytest.mark.parametrize(
    ("arguments", "part"),
    [("", "-imb0.05-"), ("--imb_type natural", "-natural-"), (f"--counts {'9,' * 9}9", "-counts-")],
)
def test_the_run_name_says_where_the_class_sizes_come_from(arguments: str, part: str) -> None:
    name = train_options(arguments).run_name({})
    assert part in name and ("imb" in name) == (not arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--imb_factor 0.1 --n_max 9", []),
        ("--imb_type natural --imb_factor 0.1", ["--imb_factor 0.1 has no effect: --imb_type natural uses all images"]),
        ("--counts 5,3 --n_max 9", ["--n_max 9 has no effect: --counts has the sizes"]),
        ("--unlabel_size_factor 2", ["--unlabel_size_factor 2 has no effect: it goes with --imb_factor_unlabel"]),
        ("--unlabel_size_factor 2 --imb_factor_unlabel 1", []),
        (
            "--dataset folder --path . --val_path . --val_fraction 0.1",
            ["--val_fraction 0.1 has no effect: the validation images are those that you name"],
        ),
        ("--dataset folder --path .", []),
    ],
)
def test_what_was_given_and_has_no_effect_is_told(
    arguments: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    train_options(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told)
    assert all(line.startswith(f"longtail train: {start}") for line, start in zip(lines, told, strict=True))


def test_the_set_name_can_be_read() -> None:
    options = train_options("--dataset cifar10 --imb_factor 0.01 --imb_factor_unlabel 0.02 --rand_number 3")
    assert options.set_name().startswith("cifar10-exp-imb0.01-n5000-U0.02x5-s3-")


# An option that is neither in OUTCOME nor in PLACES fails the test below: it must be decided which it is.
OUTCOME = {
    "dataset": "digits", "imb_type": "step", "imb_factor": 0.02, "n_max": 4000, "imb_factor_unlabel": 0.5,
    "unlabel_size_factor": 4.0, "val_fraction": 0.1, "rand_number": 1, "many_shot": 90, "few_shot": 10,
    "arch": "resnet44", "epochs": 199, "batch_size": 64, "learning_rate": 0.2, "momentum": 0.8, "weight_decay": 1e-4,
    "counts": "50,30,10", "unlabeled": "svhn_extra", "test_fraction": 0.1, "image_size": 64, "on_bad_image": "skip",
    "seed": 1, "world_size": 2, "threads": 1, "exp_str": "again", "loss_type": "LDAM", "train_rule": "DRW",
    "max_resident_gib": 0.5, "shuffle_buffer": 500, "image_column": "picture", "label_column": "kind",
    "focal_gamma": 2.0, "ldam_max_margin": 0.25, "ldam_scale": 10.0, "tau": 2.0, "lr_schedule": "cosine",
    "num_classes": 7, "precision": "bfloat16", "compile": "default", "eval_every": 2, "nesterov": True,
    "bn_momentum": 0.01, "horizontal_flip": "always",
}  # fmt: skip
PLACES = {
    "master": "local[2]", "remote": "sc://localhost", "verbose": True, "data_dir": "elsewhere",
    "runs_dir": "elsewhere", "retries": 5, "rank_timeout": 9.0, "data_through": "partitions", "backend": "gloo",
    "mlflow": "http://127.0.0.1:5000",
}  # fmt: skip
# What is valid only together with others.
OUTCOME_TOGETHER = {
    "tune": {"resume": Path(__file__), "tune": "last_2"},
    "keep_labelled_copies": {"imb_factor_unlabel": 1.0, "keep_labelled_copies": True},
    "path": {"dataset": "folder", "path": "/"},
    "layout": {"dataset": "folder", "path": "/", "layout": "classes"},
    "test_path": {"dataset": "table", "path": "/", "test_path": "/tmp"},
    "val_path": {"dataset": "table", "path": "/", "val_path": "/tmp"},
    "val_list_file": {"dataset": "image_list", "path": "/", "list_file": __file__, "val_list_file": __file__},
    "list_file": {"dataset": "image_list", "path": "/", "list_file": __file__},
    "test_list_file": {"dataset": "image_list", "path": "/", "list_file": __file__, "test_list_file": __file__},
    "relevance": {"imb_factor_unlabel": 1.0, "relevance": 0.5, "irrelevant_dataset": "cifar100"},
    "irrelevant_dataset": {"imb_factor_unlabel": 1.0, "relevance": 0.5, "irrelevant_dataset": "svhn"},
}
# Of these the content counts, which the caller hashes; where the file lies does not.
INPUT_FILES = {"resume": "a.pt", "pretrained_model": "b.pt"}
# They belong to -e, which has no run.
OF_EVALUATION = {"logit_adjustment": 1.0, "features": Path("/features.parquet"), "tsne": Path("/map.png")}


def test_the_run_name_changes_with_every_option_that_changes_the_outcome() -> None:
    assert {*OUTCOME, *OUTCOME_TOGETHER, *PLACES, *INPUT_FILES, *OF_EVALUATION, "evaluate", "dry_run"} == set(
        TrainOptions.model_fields
    )
    plain = train_options("--dataset cifar10").model_dump()
    changes = [{name: value} for name, value in OUTCOME.items()] + list(OUTCOME_TOGETHER.values())
    names = [TrainOptions(**{**plain, **change}).run_name({}) for change in changes]
    assert len({TrainOptions(**plain).run_name({}), *names}) == 1 + len(changes)


@pytest.mark.parametrize(("name", "value"), OF_EVALUATION.items())
def test_an_option_of_evaluation_is_refused_without_it(tmp_path: Path, name: str, value: object) -> None:
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    assert f"--{name} is for the evaluation of a checkpoint" in refusal(TrainOptions, f"--{name} {value}")
    assert getattr(train_options(f"-e --resume {checkpoint} --{name} {value}"), name) == value


def test_a_plot_in_an_unknown_format_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    message = refusal(TrainOptions, f"-e --resume {checkpoint} --tsne map.bmp")
    assert "the name of a plot ends in .png, .pdf or .svg" in message


@pytest.mark.parametrize(("name", "value"), [*PLACES.items(), *INPUT_FILES.items()])
def test_the_run_name_does_not_change_with_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in INPUT_FILES.values():
        Path(file).touch()
    plain = train_options("--dataset cifar10")
    assert TrainOptions(**{**plain.model_dump(), name: value}).run_name({}) == plain.run_name({})


def test_the_run_name_changes_with_the_content_of_the_files_that_a_run_starts_from() -> None:
    options = train_options("--dataset cifar10")
    names = [options.run_name({}), *(options.run_name({name: "1f"}) for name in INPUT_FILES)]
    assert len({*names, options.run_name({"resume": "2e"})}) == 4


def semi_options(command_line: str = "") -> TrainSemiOptions:
    argv = shlex.split(f"--imb_factor_unlabel 1 {command_line}")
    return parse_options(TrainSemiOptions, argv, prog="longtail train_semi")


# Each with another value than its default.
OF_FIXMATCH = {
    "ema_decay": 0.9, "strong_operations": 3, "pseudo_label_tau": 1.0, "balancing": "CReST+",
    "da_window": 16, "darp_warmup": 0.1, "darp_every": 5, "darp_rounds": 3, "darp_delta": 1.5,
    "unlabeled_shares": "1,2", "crest_alpha": 0.5, "crest_t_min": 0.25, "daso_warmup": 0.1, "daso_queue": 8,
    "daso_t_proto": 0.1, "daso_t_dist": 0.3, "daso_period": 10, "daso_alignment": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OF_FIXMATCH.items())
def test_an_option_of_fixmatch_is_refused_without_it(name: str, value: object) -> None:
    assert OF_FIXMATCH.keys() == set(FixMatchOptions.own_fields())
    message = refusal(TrainSemiOptions, f"--imb_factor_unlabel 1 --{name} {value}")
    assert f"--{name} is for --semi_method fixmatch" in message


def test_crest_has_its_published_number_of_generations_and_goes_on_from_tables() -> None:
    crest = semi_options("--semi_method fixmatch --balancing CReST+")
    assert (crest.rounds, crest.needs_pseudo_labels) == (6, False)
    assert semi_options("--semi_method fixmatch --balancing CReST+ --rounds 2").rounds == 2
    given = f"--imb_factor_unlabel 1 --semi_method fixmatch --balancing CReST+ --pseudo_labels {__file__}"
    assert "--balancing CReST+ needs confidences" in refusal(TrainSemiOptions, given)


@pytest.mark.parametrize(
    ("shares", "named"), [("1,x", "numbers separated by commas"), ("0,0", "not all are 0"), ("1,-1", "0 or more")]
)
def test_shares_are_numbers_of_which_some_are_positive(shares: str, named: str) -> None:
    given = f"--imb_factor_unlabel 1 --semi_method fixmatch --unlabeled_shares {shares}"
    assert named in refusal(TrainSemiOptions, given)


def test_shares_are_estimated_where_images_are_held_out() -> None:
    given = "--semi_method fixmatch --balancing DARP --unlabeled_shares estimated"
    assert "needs held-out images: give --val_fraction" in refusal(TrainSemiOptions, f"--imb_factor_unlabel 1 {given}")
    assert semi_options(f"{given} --val_fraction 0.1").unlabeled_shares == "estimated"


def test_nesterov_without_momentum_is_refused() -> None:
    assert "--nesterov needs a --momentum above 0" in refusal(TrainOptions, "--nesterov --momentum 0")


def test_the_options_of_semi_supervision_change_the_run_name() -> None:
    given = [
        "", "--unlabeled_weight 0.5", "--confidence_threshold 0.9", "--confidence_threshold 0.9,0.8",
        "--pseudo_label_type soft", "--unlabeled_ratio 2", "--class_counts labelled", "--semi_method fixmatch",
        *(f"--semi_method fixmatch --{name} {value}" for name, value in OF_FIXMATCH.items()),
        # The power of a generation's alignment follows from how many there are.
        "--semi_method fixmatch --balancing CReST+ --rounds 3",
    ]  # fmt: skip
    assert len({semi_options(variant).run_name({}) for variant in given}) == len(given)
    # Each round is a run of its own, whose name its pseudo-labels change.
    assert semi_options("--rounds 3").run_name({}) == semi_options().run_name({})


def test_fixmatch_has_its_published_ratio_and_threshold_unless_said_otherwise() -> None:
    fixmatch = semi_options("--semi_method fixmatch")
    assert (fixmatch.unlabeled_ratio, fixmatch.confidence_threshold) == (7, (0.95,))
    fixmatch = semi_options("--semi_method fixmatch --unlabeled_ratio 2 --confidence_threshold 0.7,0.8")
    assert (fixmatch.unlabeled_ratio, fixmatch.confidence_threshold) == (2, (0.7, 0.8))
    assert (semi_options().needs_pseudo_labels, fixmatch.needs_pseudo_labels) == (True, False)


@pytest.mark.parametrize("given", ["--rounds 2", "--pseudo_label_type soft", f"--pseudo_labels {__file__}"])
def test_fixmatch_refuses_what_is_for_pseudo_labels_made_before(given: str) -> None:
    message = refusal(TrainSemiOptions, f"--imb_factor_unlabel 1 --semi_method fixmatch {given}")
    assert "fixmatch makes its own hard pseudo-labels in every step" in message


def test_thresholds_are_one_or_several_numbers_on_the_command_line_and_in_a_file(config: Path) -> None:
    assert semi_options().confidence_threshold == (0,)
    assert semi_options("--confidence_threshold 0.9").confidence_threshold == (0.9,)
    assert semi_options("--confidence_threshold 0.9,.8,1").confidence_threshold == (0.9, 0.8, 1)
    for text, thresholds in (("0.9", (0.9,)), ("[0.9, 1]", (0.9, 1)), ("0.9,0.8", (0.9, 0.8))):
        config.write_text(f"confidence_threshold: {text}\n")
        assert semi_options(f"--config {config}").confidence_threshold == thresholds


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Path of a file that passes for a checkpoint as long as nobody reads it."""
    path = tmp_path / "model.pt"
    path.touch()
    return path


def classifier_options(command_line: str, checkpoint: Path) -> TrainClassifierOptions:
    argv = shlex.split(f"--resume {checkpoint} {command_line}")
    return parse_options(TrainClassifierOptions, argv, prog="longtail train_classifier")


def test_a_classifier_takes_ten_epochs_however_many_the_data_set_s_networks_take(checkpoint: Path) -> None:
    for dataset in ("digits", "cifar10"):
        assert classifier_options(f"--dataset {dataset}", checkpoint).epochs == 10
    assert classifier_options("--epochs 3 --method LWS", checkpoint).epochs == 3


@pytest.mark.parametrize("method", ["tau", "NCM"])
def test_a_classifier_that_learns_nothing_takes_one_epoch(checkpoint: Path, method: str) -> None:
    assert classifier_options(f"--method {method} --epochs 3", checkpoint).epochs == 1


def test_a_classifier_is_trained_on_balanced_draws_unless_said_otherwise(checkpoint: Path) -> None:
    assert classifier_options("", checkpoint).train_rule == "ClassBalanced"
    assert classifier_options("--train_rule None", checkpoint).train_rule == "None"


def test_a_classifier_needs_a_checkpoint_and_a_loss_that_fits(checkpoint: Path) -> None:
    assert "--resume is required" in refusal(TrainClassifierOptions, "")
    message = refusal(TrainClassifierOptions, f"--resume {checkpoint} --method LWS --loss_type LDAM")
    assert "LDAM needs cosines" in message


def test_every_classifier_has_a_run_of_its_own(checkpoint: Path) -> None:
    given = ["", "--method LWS", "--method tau", "--method NCM", "--method tau --tau_norm 1", "--train_rule None"]
    options = [classifier_options(variant, checkpoint) for variant in given]
    assert len({o.run_name({}) for o in options}) == 6
    assert options[0].run_name({"resume": "1f"}) != options[0].run_name({"resume": "2e"})


def test_jobs_that_share_their_options_do_not_share_runs() -> None:
    jobs = (PretrainRotOptions, PretrainMocoOptions, PretrainSimclrOptions, TrainOptions, TrainSemiOptions)
    names = {resolve_options(job, {"imb_factor_unlabel": 1}).run_name({}) for job in jobs}
    assert len(names) == len(jobs)


def test_advice_holds_labelled_images_out_whatever_the_data_set_s_default_is() -> None:
    for dataset in ("digits", "cifar10"):
        options = parse_options(
            AdviseOptions, ["--dataset", dataset, "--imb_factor_unlabel", "1"], prog="longtail advise"
        )
        assert options.val_fraction == 0.2
        base = options_for(TrainOptions, options)
        # The base classifier is that of `train`, on the labelled images that are left.
        assert base == train_options(f"--dataset {dataset} --imb_factor_unlabel 1 --val_fraction 0.2")


@pytest.mark.parametrize("options_type", [PretrainMocoOptions, PretrainSimclrOptions])
def test_a_contrast_needs_others_to_compare_with(options_type: type[JobOptions]) -> None:
    assert "--batch_size 3" in refusal(options_type, "--batch_size 3")


def test_momentum_contrast_has_the_published_defaults() -> None:
    options = parse_options(PretrainMocoOptions, ["--dataset", "cifar10"], prog="longtail pretrain_moco")
    expected = {"projection_dim": 128, "queue_size": 65536, "key_momentum": 0.999, "temperature": 0.2, "epochs": 200}
    expected |= {"learning_rate": 0.015, "weight_decay": 1e-4, "batch_size": 128, "lr_schedule": "cosine"}
    assert {name: getattr(options, name) for name in expected} == expected


def test_every_data_set_has_a_source_and_every_source_a_data_set() -> None:
    assert known_datasets() == sorted(SOURCES)


@pytest.mark.parametrize("dataset", sorted(SOURCES))
def test_the_facts_of_a_data_set_fit_its_source(tmp_path: Path, dataset: str) -> None:
    facts, source = dataset_facts(dataset), SOURCES[dataset]
    assert (facts.mean is None) == (facts.std is None)
    if dataset not in OWN_IMAGES:
        channels = source.IMAGE_SHAPE[2]
        assert facts.mean is None or (len(facts.mean), len(facts.std)) == (channels, channels)
        assert len(set(source.CLASS_NAMES)) == len(source.CLASS_NAMES)
    # Each default must be an option of some job and have a value that it takes.
    assert set(facts.defaults) <= set(TrainOptions.model_fields)
    assert set(facts.pipeline) <= set(PipelineOptions.model_fields)
    list_file = tmp_path / "list.txt"
    list_file.touch()
    places = {"folder": f"--path {tmp_path}", "image_list": f"--path {tmp_path} --list {list_file}"}
    places["table"] = f"--path {tmp_path}"
    assert train_options(f"--dataset {dataset} {places.get(dataset, '')}").dataset == dataset
