"""Check what the worked examples of CONTRIBUTING.md add, in a copy that has them (tests/test_contributing.py).

    python -m pytest tests/contributing/checks.py

Not collected elsewhere: without the examples there is nothing to check.
"""

import csv
import json
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import LossOptions, TrainOptions
from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.spark_jobs.cli import main
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.spark_jobs.steps.prepare import prepare
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.dashboard.page import page_state, whole_page
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import file_names
from longtail.streaming.events.schema import StepEvent, event_line
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.tables.reading import read_result_table
from longtail.training.losses import build_loss
from longtail.training.rebalancing import class_weights
from longtail.training.run import run_training
from longtail.training.semi.fixmatch_base import ViewOutputs
from longtail.training.step_watch import StepWatch
from tests.conftest import RunJob
from tests.events import an_event, class_event
from tests.test_semi_methods import method, step
from tests.tiny_set import ALONE, paths_of, tiny_options, weights_in


@pytest.fixture(scope="module")
def trained_run(set_dir: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A run with what the examples add to a training."""
    options = tiny_options(TrainOptions, arch="one_convolution", loss_type="MAE", train_rule="InverseFrequency")
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        # Report every step, instead of every two seconds.
        patch.setattr(StepWatch, "__init__", partialmethod(StepWatch.__init__, seconds=0.0))
        run_training(options, paths_of(set_dir, run_dir), ALONE, attempt=1)
    return run_dir


@pytest.fixture(scope="module")
def tables_dir(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Result tables of a run of two epochs and two classes.

    At its last epoch nothing is predicted as the tail, and of 8 images 4 are correct with a mean confidence of 0.9.
    """
    old_step = {**json.loads(event_line(an_event(StepEvent))), "format_version": 1}
    del old_step["num_ranks"]
    lines = [
        json.dumps(old_step),
        event_line(an_event(StepEvent, step=10, num_ranks=2)),
        *(event_line(class_event(class_id=c, confidence_sum=3.0, correct=2, predicted=4)) for c in (0, 1)),
        event_line(class_event(epoch=2, class_id=0, confidence_sum=3.6, correct=4, predicted=8)),
        event_line(class_event(epoch=2, class_id=1, confidence_sum=3.6, correct=0, predicted=0)),
    ]
    tables_dir = tmp_path_factory.mktemp("tables")
    keeper = TableKeeper(spark, tables_dir, read_alert_rules())
    keeper.update(pa.table({"value": lines, "source": ["a file"] * len(lines)}))
    yield tables_dir
    keeper.close()


def test_data_set_is_prepared_with_the_class_sizes_of_its_defaults(spark: SparkSession, tmp_path: Path) -> None:
    set_dir = prepare(spark, resolve_options(PrepareOptions, {"dataset": "greys", "data_dir": tmp_path}))
    manifest = read_manifest(set_dir)
    assert manifest.class_names == ["dark", "medium", "bright"]
    # 40 times 0.1^(0/2), 0.1^(1/2) and 0.1^(2/2), rounded down.
    assert manifest.counts[TRAIN] == [40, 12, 4]
    assert manifest.counts[TEST] == [100, 100, 100]


def test_loss_is_the_probability_of_the_other_classes() -> None:
    loss = build_loss(resolve_options(LossOptions, {"loss_type": "MAE"}), [2, 1], torch.device("cpu"))
    logits = torch.tensor([[3.0, 1.0]]).log()  # probabilities 3/4 and 1/4
    assert loss(logits, torch.tensor([0])).item() == pytest.approx(1 / 4)
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(3 / 4)


def test_re_balancing_rule_weights_a_class_of_half_the_size_twice_as_much() -> None:
    weights = class_weights("InverseFrequency", [10, 5], epoch=0, num_epochs=1)
    assert weights.tolist() == pytest.approx([2 / 3, 4 / 3])


def test_network_trains(trained_run: Path) -> None:
    result = json.loads((trained_run / "result.json").read_text())
    weights = weights_in(trained_run / "ckpt.pth.tar")
    assert result["epoch"] == 1
    assert weights["conv1.weight"].shape == (32, 1, 3, 3) and weights["fc.weight"].shape == (3, 32)


def test_semi_supervised_method_squares_the_probabilities_and_trains(
    set_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0]]).log()  # 3/4, 1/4 and 0: 9/16 and 1/16 are normalised to 9/10 and 1/10
    weak, first = ViewOutputs(torch.zeros(1, 4), logits, logits), step(0, targets=[NO_CLASS], places=[0])
    assert method("sharpened").probabilities(weak, first).tolist() == [pytest.approx([0.9, 0.1, 0.0])]
    options = tiny_options(
        TrainSemiOptions, imb_factor_unlabel=1.0, semi_method="fixmatch", balancing="sharpened", unlabeled_ratio=1.0
    )
    result = run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert (result["phase"], result["epoch"]) == ("train_semi", 1)


def test_self_supervised_pre_training_is_a_job_and_learns_flips(
    set_dir: Path, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain_flip", "--help"])
    assert "usage: longtail pretrain_flip" in capsys.readouterr().out
    options = tiny_options(PRETRAININGS["pretrain_flip"])
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert weights_in(tmp_path / "run" / "ckpt.pth.tar")["fc.weight"].shape == (2, 64)


def test_event_field_is_written_by_a_training(trained_run: Path) -> None:
    events_dir = trained_run.parent / "events"
    pieces = read_event_files(events_dir, file_names(events_dir))
    lines = [line for piece in pieces for line in piece.as_lines()["value"].to_pylist()]
    steps = [event for event in map(json.loads, lines) if event["kind"] == "step"]
    assert steps and {step["num_ranks"] for step in steps} == {1}


def test_event_field_is_a_column_that_is_null_for_older_events(tables_dir: Path) -> None:
    steps = read_result_table(tables_dir, "steps").to_pylist()
    assert {row["step"]: row["num_ranks"] for row in steps} == {5: None, 10: 2}
    assert read_result_table(tables_dir, "quarantine").num_rows == 0


def test_query_counts_classes_that_are_never_predicted(tables_dir: Path) -> None:
    rows = read_result_table(tables_dir, "ignored_classes").to_pylist()
    assert rows == [{"run": "base", "split": "test", "num_ignored": 1}]


def test_alert_is_raised_where_confidence_exceeds_accuracy(tables_dir: Path) -> None:
    alerts = {row["rule"]: row for row in read_result_table(tables_dir, "alerts").to_pylist()}
    assert alerts["overconfident"]["message"] == "confidence is 40.0 points too high"
    assert (alerts["overconfident"]["split"], alerts["overconfident"]["epoch"]) == ("test", 2)


def test_chart_is_on_the_page(tables_dir: Path) -> None:
    state = page_state(TableReader(tables_dir).read, Selection())
    figure = state.figures["calibration_line"]
    assert figure is not None
    # Epoch 1: 6 of 8 confident, 4 of 8 correct; epoch 2: 7.2 and 4.
    assert figure.data[0].x == (1, 2)
    assert list(figure.data[0].y) == pytest.approx([0.25, 0.4])
    assert 'id="panel-calibration_line"' in whole_page(state)


def test_tracker_has_the_scores_of_each_run(tables_dir: Path) -> None:
    update_sinks(tables_dir, tensorboard=None, as_delta=False)(["base", "deleted"])
    (file,) = (tables_dir / "scores").iterdir()
    assert file.name == "base.csv" and [row["epoch"] for row in csv.DictReader(file.open())] == ["1", "2"]


def test_experiment_axis_is_planned(job: RunJob) -> None:
    done = job("experiment", "digits_margin", "--dry_run")
    # Two margins, two imbalances and two seeds; two prepared sets.
    assert done.returncode == 0 and "8 trials, 10 steps" in done.stdout


def test_job_option_is_in_the_help_and_keeps_the_weights_where_they_are(
    set_dir: Path, tmp_path: Path, trained_run: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--clip_grad" in capsys.readouterr().out
    options = tiny_options(TrainOptions, arch="one_convolution", weight_decay=0.0, clip_grad=1e-9)
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    torch.manual_seed(options.seed)
    initial = build_model("one_convolution", num_classes=3, in_channels=1).state_dict()
    clipped, usual = (weights_in(run / "ckpt.pth.tar") for run in (tmp_path / "run", trained_run))
    assert torch.allclose(clipped["conv1.weight"], initial["conv1.weight"], atol=1e-7)
    assert not torch.allclose(usual["conv1.weight"], initial["conv1.weight"], atol=1e-7)


def test_job_is_listed_and_runs(job: RunJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert job("classes", "--dataset", "greys").stdout == "0 dark\n1 medium\n2 bright\n"
    with pytest.raises(SystemExit):
        main(["help"])
    assert "  classes " in capsys.readouterr().out
