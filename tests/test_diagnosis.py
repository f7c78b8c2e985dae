"""A diagnosis: the outputs that it reads, its files and its lines (spark_jobs/advising/diagnosis*.py)."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from longtail.spark_jobs.advising.commands import Commands
from longtail.spark_jobs.advising.diagnosis import Diagnosis, read_held_out, read_unlabeled
from longtail.spark_jobs.advising.diagnosis_output import answer_lines, class_rows, print_diagnosis, write_diagnosis
from longtail.spark_jobs.advising.estimates import ClassEstimates, Estimate, Estimates
from longtail.spark_jobs.advising.rules import Advice


def write_predictions(file: Path) -> None:
    columns = {
        "split": ["val", "val", "unlabeled"],
        "id": [1, 2, 3],
        "label": pa.array([0, 2, None], pa.int32()),
        "predicted": pa.array([0, 1, 2], pa.int32()),
        "probabilities": pa.array([[0.5, 0.2, 0.3], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]], pa.list_(pa.float32())),
        "features": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), file)


def test_the_log_odds_are_of_the_halves_probabilities_and_always_finite(spark: SparkSession, tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet")
    held_out = read_held_out(spark, tmp_path / "p.parquet", np.array([True, True, False]))
    by_label = dict(zip(held_out.labels.tolist(), held_out.head_log_odds, strict=True))
    assert by_label[0] == pytest.approx(math.log(0.7 / 0.3), rel=1e-6)
    assert by_label[2] == pytest.approx(math.log(1 / 1e-12), rel=1e-6)  # a probability of 0 counts as 1e-12
    assert {label: row.tolist() for label, row in zip(held_out.labels.tolist(), held_out.features, strict=True)} == {
        0: [1, 2], 2: [3, 4]
    }  # fmt: skip


def test_at_most_so_many_images_of_the_split_are_read(spark: SparkSession, tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet")
    is_head = np.array([True, False, False])
    assert len(read_held_out(spark, tmp_path / "p.parquet", is_head, max_images=1).predicted) == 1
    unlabeled = read_unlabeled(spark, tmp_path / "p.parquet", is_head)
    assert unlabeled.predicted.tolist() == [2] and unlabeled.features.tolist() == [[5, 6]]


def sure(value: float) -> Estimate:
    return Estimate(value, value, value)


def each(*values: float) -> ClassEstimates:
    return ClassEstimates(np.array(values), np.array(values) - 0.05, np.array(values) + 0.05)


DIAGNOSIS = Diagnosis(
    checkpoint=Path("/runs/base/ckpt.pth.tar"), class_names=["cat", "dog"], shot_groups=["many", "few"],
    is_head=np.array([True, False]), labelled=np.array([60, 5]), held_out=np.array([12, 1]),
    predicted=np.array([75, 25]), rho=8.0, tail_share=5 / 65, bias=None,
    on_unlabeled=Advice("cannot tell", "gain", ["So it is."]),
    on_self_supervision=Advice("no gain", "no gain", ["Nothing to gain."]),
    copies=["left out of the unlabeled part: 2 exact copies of test images, such as a of b"],
    found=Estimates(
        relevance=sure(0.8), tail_share=sure(0.5), rho=sure(1.0), head_recall=sure(0.9),
        tail_recall=sure(0.6), recall_gap=sure(0.3), pseudo_label_accuracy=sure(0.6), head_precision=sure(0.7),
        tail_precision=sure(0.9), precision_difference=sure(-0.2), class_shares=each(0.4, 0.4),
        missed=sure(0.25), recall=each(0.9, 0.6), precision=each(0.7, np.nan), held_out=(12, 1),
    ),
)  # fmt: skip


def test_a_class_s_shares_are_of_all_unlabeled_images_and_an_unknown_precision_is_null() -> None:
    cat, dog = class_rows(DIAGNOSIS)
    assert (cat["half"], cat["labelled"], cat["held_out"], cat["recall"]) == ("head", 60, 12, 0.9)
    assert (cat["estimated_share"], cat["predicted_share"]) == (0.4, 0.75)
    assert (cat["recall_low"], cat["recall_high"]) == (0.9 - 0.05, 0.9 + 0.05)
    assert dog["precision"] is dog["precision_low"] is None


COMMANDS = Commands("longtail gen_pseudolabels && longtail train_semi", None)


def test_the_files_and_the_terminal_say_the_same(tmp_path: Path) -> None:
    write_diagnosis(DIAGNOSIS, COMMANDS, tmp_path)
    written = json.loads((tmp_path / "advice.json").read_text())
    lines = answer_lines(DIAGNOSIS, COMMANDS)
    assert lines == [
        "Train with your unlabeled images? Cannot tell; the estimates lean to yes.", "- So it is.",
        "next: longtail gen_pseudolabels && longtail train_semi",
        "Pre-train on your images without their labels first? Probably not.", "- Nothing to gain.",
    ]  # fmt: skip
    assert written["conclusion"] == f"{lines[0]} {lines[3]}"
    assert (written["unlabeled_data"]["command"], written["self_supervision"]["command"]) == (lines[2][6:], None)
    assert written["estimates"]["relevance"] == {"value": 0.8, "low": 0.8, "high": 0.8}
    assert written["held_out"] == {"head": 12, "tail": 1}
    assert written["copies"] == ["left out of the unlabeled part: 2 exact copies of test images, such as a of b"]
    assert written["threshold_bias"] is None and written["labelled"]["rho"] == 8
    assert pq.read_table(tmp_path / "classes.parquet").to_pylist() == written["classes"] == class_rows(DIAGNOSIS)


def test_a_command_that_the_estimates_do_not_lean_to_is_not_the_next_step() -> None:
    leaning_to_no = replace(DIAGNOSIS, on_unlabeled=Advice("cannot tell", "no gain", ["So it is."]))
    assert answer_lines(leaning_to_no, COMMANDS)[:3] == [
        "Train with your unlabeled images? Cannot tell; the estimates lean to no.", "- So it is.",
        "to try it all the same: longtail gen_pseudolabels && longtail train_semi",
    ]  # fmt: skip


def test_the_name_of_a_class_is_not_folded_beside_the_widest_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "longtail.spark_jobs.advising.diagnosis_output.console", lambda: Console(width=80, markup=False)
    )
    from_nothing = ClassEstimates(np.array([0.9, 0.9]), np.zeros(2), np.ones(2))
    wide = replace(
        DIAGNOSIS, class_names=["automobile", "dog"], labelled=np.array([4000, 5]), held_out=np.array([800, 1]),
        found=replace(DIAGNOSIS.found, recall=from_nothing, precision=from_nothing, class_shares=from_nothing),
    )  # fmt: skip
    print_diagnosis(wide, COMMANDS)
    assert any(line.split()[:3] == ["automobile", "4000", "(800)"] for line in capsys.readouterr().out.splitlines())


def test_the_answers_are_on_top_and_no_heading_is_cut_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(width=80, markup=False)
    monkeypatch.setattr("longtail.spark_jobs.advising.diagnosis_output.console", lambda: terminal)
    print_diagnosis(replace(DIAGNOSIS, class_names=["a cat of a long name", "dog"]), COMMANDS)
    printed = capsys.readouterr().out
    assert printed.startswith("Train with your unlabeled images? Cannot tell")
    assert "…" not in printed
    for heading in ("needed", "labelled", "(held out)", "predicted", "estimated", "recall", "precision"):
        assert heading in printed
    cat = next(line for line in printed.splitlines() if "60 (12)" in line)
    assert cat.split()[-7:] == ["75.0", "40.0", "(35-45)", "90.0", "(85-95)", "70.0", "(65-75)"]
    dog = next(line for line in printed.splitlines() if "5 (1)" in line)
    assert dog.split() == ["dog", "5", "(1)", "25.0", "-", "-", "-"]  # one held-out image
    for text in ("80.0 % (80.0 to 80.0)", "60.0 % (60.0 to 60.0)", "90.0 % (90.0 to 90.0)"):
        assert printed.count(text) == 1
