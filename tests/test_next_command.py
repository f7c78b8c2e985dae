"""`next:` lines (conf/next_command.py): commands that run as they are printed and keep what was chosen."""

import json
import shlex
from pathlib import Path
from typing import TypeVar

import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import given_values, parse_options
from longtail.conf.next_command import next_command
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.base import JobOptions
from longtail.conf.options.calibrate import CalibrateOptions
from longtail.conf.options.data import DATA_OPTIONS, DataOptions
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions, PredictOptions
from longtail.conf.options.live import MonitorOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.prepare import PrepareOptions, StatsOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.studies import ExperimentOptions, ReportOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cli import main
from longtail.spark_jobs.steps.next_steps import use_of_calibrated, use_of_checkpoint
from longtail.spark_jobs.steps.self_training import pseudo_label_table
from tests.refusals import refused

Options = TypeVar("Options", bound=JobOptions)


def parsed(options_type: type[Options], command_line: str) -> Options:
    return parse_options(options_type, shlex.split(command_line), prog="longtail job")


def reparsed(options_type: type[Options], command: str, *, job: str) -> Options:
    """The options that a printed command resolves to."""
    program, named, *arguments = shlex.split(command)
    assert (program, named) == ("longtail", job)
    return parse_options(options_type, arguments, prog=f"longtail {job}")


def data_values(options: DataOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in DATA_OPTIONS}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "my runs" / "ckpt.pth.tar"
    file.parent.mkdir()
    file.touch()
    return file


@pytest.mark.parametrize(
    "command_line",
    [
        "",
        "--dataset cifar10 --n_max 4000",
        "--imb_type step --imb_factor 0.1 --imb_factor_unlabel 0.5 --unlabel_size_factor 2.5",
        "--val_fraction 0.1 --rand_number 7 --many_shot 30 --few_shot 3",
        "--data_dir 'a directory'",
        "--dataset folder --path '/' --image_size 16",
        "--dataset cifar10 --counts 9,8,7 --unlabeled 'some images'",
        "--dataset cifar10 --imb_factor_unlabel 10 --relevance 0.5 --irrelevant_dataset svhn",
        "--dataset cifar10 --imb_factor_unlabel 1 --relevance 0.5 --irrelevant_dataset cifar10 --num_classes 7",
    ],
)
def test_the_next_job_has_the_same_data_set(command_line: str) -> None:
    options = parsed(PrepareOptions, command_line)
    for job, options_type in (("stats", StatsOptions), ("train", TrainOptions)):
        again = reparsed(options_type, next_command(job, options_type, options), job=job)
        assert data_values(again) == data_values(options)


def test_only_what_differs_from_the_defaults_of_the_data_set_is_repeated() -> None:
    assert next_command("stats", StatsOptions, parsed(TrainOptions, "--epochs 3")) == "longtail stats --dataset digits"
    options = parsed(PrepareOptions, "--n_max 30 --data_dir 'my data' --master 'local[2]'")
    expected = "longtail train --master 'local[2]' --dataset digits --data_dir 'my data' --n_max 30"
    assert next_command("train", TrainOptions, options) == expected


def test_the_next_job_has_the_data_set_of_a_pipeline() -> None:
    pipeline = parsed(PipelineOptions, "--dataset cifar10")
    again = reparsed(TrainOptions, next_command("train", TrainOptions, pipeline), job="train")
    assert again.set_name() == pipeline.set_name()


def test_a_training_after_a_pretraining_keeps_what_was_chosen_for_it(checkpoint: Path) -> None:
    chosen = "-a resnet32 --epochs 3 --lr 0.2 --seed 7 --world_size 2 --runs_dir 'my runs' --exp_str again --nesterov"
    options = parsed(PretrainRotOptions, f"{chosen} --resume {shlex.quote(str(checkpoint))}")
    command = next_command("train", TrainOptions, options, pretrained_model=checkpoint)
    again = reparsed(TrainOptions, command, job="train")
    shared = PretrainRotOptions.model_fields.keys() & TrainOptions.model_fields.keys() - {"resume"}
    assert {name: getattr(again, name) for name in shared} == {name: getattr(options, name) for name in shared}
    assert (again.arch, again.epochs, again.pretrained_model, again.resume) == ("resnet32", 3, checkpoint, None)


def test_where_a_job_writes_is_not_where_the_next_one_does() -> None:
    """The training after a labelling would look for the labels elsewhere."""
    options = parsed(AdviseOptions, "--imb_factor_unlabel 1 --output_dir advice")
    assert next_command("gen_pseudolabels", GenPseudolabelsOptions, options, resume="c").endswith(" --resume c")


def test_what_belongs_to_a_contrastive_pretraining_stays_there(checkpoint: Path) -> None:
    options = parsed(PretrainMocoOptions, "--epochs 7 --lr 0.03 --wd 0.01 --lr_schedule steps")
    command = next_command("train", TrainOptions, options, pretrained_model=checkpoint)
    again = reparsed(TrainOptions, command, job="train")
    assert (again.epochs, again.learning_rate, again.weight_decay, again.batch_size) == (7, 0.1, 2e-4, 32)


def test_a_job_that_reads_its_data_set_from_a_checkpoint_is_not_given_it_again(checkpoint: Path) -> None:
    quoted = shlex.quote(str(checkpoint))
    options = parsed(TrainOptions, "--n_max 30 --imb_factor_unlabel 2 --epochs 3 --threads 2 --master 'local[3]'")
    expected = f"longtail gen_pseudolabels --master 'local[3]' --resume {quoted} --threads 2"
    assert use_of_checkpoint(options, checkpoint) == expected
    # An unlabeled part of the user's own images is in the checkpoint too.
    options = parsed(TrainClassifierOptions, f"--resume {quoted} --unlabeled / --batch_size 64")
    assert use_of_checkpoint(options, checkpoint) == f"longtail gen_pseudolabels --resume {quoted}"


def test_without_an_unlabeled_part_the_checkpoint_is_evaluated(checkpoint: Path) -> None:
    options = parsed(TrainOptions, "--n_max 30 --loss_type LDAM")
    assert use_of_checkpoint(options, checkpoint) == f"longtail evaluate --resume {shlex.quote(str(checkpoint))}"


def test_a_classifier_that_has_learned_from_the_unlabeled_part_is_evaluated(checkpoint: Path) -> None:
    options = parsed(TrainSemiOptions, "--imb_factor_unlabel 1")
    assert use_of_checkpoint(options, checkpoint) == f"longtail evaluate --resume {shlex.quote(str(checkpoint))}"


def test_a_calibrated_checkpoint_is_evaluated_on_the_same_data_set_or_predicts(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = "--dataset digits --n_max 30 --val_fraction 0.2"
    given = given_values(CalibrateOptions, f"--resume c --output d {data}".split(), prog="longtail calibrate")
    command = use_of_calibrated(given, checkpoint, of_images=False)
    expected = parsed(EvaluateOptions, f"--resume {shlex.quote(str(checkpoint))} {data}")
    assert reparsed(EvaluateOptions, command, job="evaluate") == expected
    photos = {"resume": "c", "path": str(tmp_path), "label_column": "kind", "on_bad_image": "skip"}
    again = reparsed(PredictOptions, use_of_calibrated(photos, checkpoint, of_images=True), job="predict")
    assert (again.resume, again.path, again.on_bad_image) == (checkpoint, tmp_path, "skip")


def test_missing_pseudo_labels_are_written_by_the_command_that_the_error_names(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = f"--dataset cifar10 --imb_factor 0.02 --imb_factor_unlabel 0.5 --data_dir {tmp_path}"
    options = parsed(TrainSemiOptions, f"{data} --pseudo_label_type soft --epochs 3")
    with refused() as messages:
        pseudo_label_table(options)
    command = messages[0].split("`")[1]
    again = reparsed(
        GenPseudolabelsOptions, command.replace("CKPT", shlex.quote(str(checkpoint))), job="gen_pseudolabels"
    )
    assert data_values(again) == data_values(options) and again.probabilities


def test_a_classifier_of_own_images_labels_others(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    chosen = f"--dataset folder --path {shlex.quote(str(tmp_path / 'my photos'))} --epochs 3 --on_bad_image skip"
    for more, arch in (("", None), ("-a ours.nets:small", "ours.nets:small")):
        command = use_of_checkpoint(parsed(TrainOptions, f"{chosen} {more}"), checkpoint)
        again = reparsed(PredictOptions, command, job="predict")
        assert (again.resume, again.path, again.output) == (checkpoint, tmp_path / "my photos", Path("predictions"))
        assert (again.arch, again.on_bad_image, again.stream) == (arch, "skip", False)
    # Where predictions would lie within the images, they are evaluated.
    command = use_of_checkpoint(parsed(TrainOptions, "--dataset folder --path /"), checkpoint)
    assert command == f"longtail evaluate --resume {shlex.quote(str(checkpoint))}"


def test_a_checkpoint_of_another_data_set_says_nothing_about_this_one(checkpoint: Path) -> None:
    options = parsed(PrepareOptions, "--dataset cifar10 --n_max 30 --imb_factor_unlabel 1")
    recorded = {"dataset": "digits", "n_max": 30}
    command = next_command(
        "gen_pseudolabels", GenPseudolabelsOptions, options, from_checkpoint=recorded, resume=checkpoint
    )
    assert data_values(reparsed(GenPseudolabelsOptions, command, job="gen_pseudolabels")) == data_values(options)


def test_a_semi_supervised_training_is_like_the_one_whose_checkpoint_labelled(checkpoint: Path, tmp_path: Path) -> None:
    chosen = "--loss_type LDAM --train_rule DRW -a resnet32 --epochs 3 --runs_dir 'my runs' --seed 5 -b 16"
    training = parsed(TrainOptions, f"--n_max 30 --imb_factor_unlabel 2 {chosen}")
    # As a checkpoint records it: paths are text.
    recorded = TrainOptions.model_construct(**training.model_dump(mode="json"))
    labelling = parsed(
        GenPseudolabelsOptions,
        f"--resume {shlex.quote(str(checkpoint))} --n_max 30 --imb_factor_unlabel 2 --batch_size 100 --threads 2",
    )
    command = next_command("train_semi", TrainSemiOptions, recorded, labelling, pseudo_labels=tmp_path)
    again = reparsed(TrainSemiOptions, command, job="train_semi")
    assert data_values(again) == data_values(training)
    kept = ("loss_type", "train_rule", "arch", "epochs", "runs_dir", "seed")
    assert {name: getattr(again, name) for name in kept} == {name: getattr(training, name) for name in kept}
    # The number of images per step of either job is not that of a semi-supervised training.
    assert (again.batch_size, again.threads, again.resume, again.pseudo_labels) == (32, 2, None, tmp_path)


def test_the_jobs_that_the_advice_suggests_have_its_data_set_and_its_network(checkpoint: Path) -> None:
    chosen = "--dataset folder --path / --imb_type natural --unlabeled / -a resnet20 --threads 1 --lr 0.05"
    options = parsed(AdviseOptions, chosen)
    command = next_command("pretrain_rot", PretrainRotOptions, options)
    again = reparsed(PretrainRotOptions, command, job="pretrain_rot")
    assert data_values(again) == data_values(options) and again.val_fraction == 0.2
    assert (again.arch, again.threads, again.learning_rate) == ("resnet20", 1, 0.05)
    recorded = {name: value for name, value in data_values(options).items() if value is not None}
    command = next_command(
        "gen_pseudolabels", GenPseudolabelsOptions, options, from_checkpoint=recorded, resume=checkpoint
    )
    assert command == f"longtail gen_pseudolabels --resume {shlex.quote(str(checkpoint))} --threads 1"


def test_a_network_of_the_user_s_own_is_named_again(checkpoint: Path) -> None:
    """It is never imported because of a checkpoint alone."""
    options = parsed(TrainOptions, "-a mine.networks:wide --loss_type mine.losses:hinge --imb_factor_unlabel 1")
    command = use_of_checkpoint(options, checkpoint)
    assert reparsed(GenPseudolabelsOptions, command, job="gen_pseudolabels").arch == "mine.networks:wide"
    recorded = TrainOptions.model_construct(**options.model_dump(mode="json"))
    command = next_command("train_semi", TrainSemiOptions, recorded, options)
    again = reparsed(TrainSemiOptions, command, job="train_semi")
    assert (again.arch, again.loss_type) == ("mine.networks:wide", "mine.losses:hinge")


def test_results_are_shown_from_where_they_were_written(tmp_path: Path) -> None:
    options = parsed(TrainSemiOptions, "--imb_factor_unlabel 1 --runs_dir 'my runs' --epochs 3")
    again = reparsed(MonitorOptions, next_command("monitor", MonitorOptions, options, once=True), job="monitor")
    assert (again.runs_dir, again.once) == (Path("my runs"), True)
    file = tmp_path / "mine.yaml"
    file.touch()
    experiment = parsed(ExperimentOptions, f"{file} --results_dir elsewhere")
    command = next_command("report", ReportOptions, experiment, experiment=experiment.name)
    again = reparsed(ReportOptions, command, job="report")
    assert (again.experiment, again.results_dir) == ("mine", Path("elsewhere"))


@pytest.mark.long
def test_each_printed_command_runs_as_it_is_printed(
    spark: SparkSession, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a pre-training on digits to an evaluation, by the printed commands alone."""
    monkeypatch.chdir(tmp_path)
    data = ["--n_max", "20", "--imb_factor_unlabel", "0.5", "--data_dir", "my data"]
    command = ["pretrain_rot", *data, "--runs_dir", "my runs", "--epochs", "1", "-a", "resnet32", "--seed", "3"]
    jobs = []
    while command:
        jobs.append(command[0])
        main(command)
        # After one epoch too few pseudo-labels are right, and a training on them is not recommended.
        parts = [line.partition(": longtail ") for line in capsys.readouterr().out.splitlines()]
        named = [command for begin, _, command in parts if command and begin in ("next", "to train on them anyway")]
        command = shlex.split(named[0]) if named else []
    assert jobs == ["pretrain_rot", "train", "gen_pseudolabels", "train_semi", "evaluate"]
    runs = [json.loads(file.read_text()) for file in Path("my runs").glob("*/options.json")]
    chosen = {"n_max": 20, "imb_factor_unlabel": 0.5, "data_dir": "my data", "runs_dir": "my runs"}
    chosen |= {"epochs": 1, "arch": "resnet32", "seed": 3}
    assert len(runs) == 3 and all(chosen.items() <= run.items() for run in runs)
    # The supervised and the semi-supervised training start from the pre-trained backbone.
    assert sum("pretrained_model" in run and run["pretrained_model"] is not None for run in runs) == 2


def test_code_of_the_user_s_own_is_given_again_as_no_checkpoint_may_name_it(checkpoint: Path) -> None:
    own = "-a ours.nets:small --loss_type ours.losses:margin"
    evaluated = reparsed(EvaluateOptions, use_of_checkpoint(parsed(TrainOptions, own), checkpoint), job="evaluate")
    assert (evaluated.arch, evaluated.loss_type) == ("ours.nets:small", "ours.losses:margin")
    labelled = use_of_checkpoint(parsed(TrainOptions, f"{own} --imb_factor_unlabel 1"), checkpoint)
    assert reparsed(GenPseudolabelsOptions, labelled, job="gen_pseudolabels").arch == "ours.nets:small"
