"""A diagnosis: the outputs that it reads, its files and its lines (spark_jobs/advising/diagnosis*.py)."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.spark_jobs.advising.diagnosis import Diagnosis, read_held_out, read_unlabeled
from longtail.spark_jobs.advising.diagnosis_output import class_rows, diagnosis_lines, write_diagnosis
from longtail.spark_jobs.advising.estimates import Estimate, Estimates
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


DIAGNOSIS = Diagnosis(
    checkpoint=Path("/runs/base/ckpt.pth.tar"), class_names=["cat", "dog"], shot_groups=["many", "few"],
    is_head=np.array([True, False]), labelled=np.array([40, 5]), held_out=np.array([8, 1]),
    predicted=np.array([75, 25]), rho=8.0, tail_share=5 / 45, bias=None,
    on_unlabeled=Advice("cannot tell", "gain", ["So it is."]),
    on_self_supervision=Advice("no gain", "no gain", ["Nothing to gain."]),
    copies=["left out of the unlabeled part: 2 exact copies of test images, such as a of b"],
    found=Estimates(
        relevance=sure(0.8), tail_share=sure(0.5), rho=sure(1.0), head_recall=sure(0.9),
        tail_recall=sure(0.6), recall_gap=sure(0.3), pseudo_label_accuracy=sure(0.6), head_precision=sure(0.7),
        tail_precision=sure(0.9), precision_difference=sure(-0.2), class_shares=np.array([0.5, 0.5]),
        recall=np.array([0.9, 0.6]), precision=np.array([0.7, np.nan]),
    ),
)  # fmt: skip


def test_a_class_s_shares_are_of_all_unlabeled_images_and_an_unknown_precision_is_null() -> None:
    cat, dog = class_rows(DIAGNOSIS)
    assert (cat["half"], cat["labelled"], cat["held_out"], cat["recall"]) == ("head", 40, 8, 0.9)
    # Of all, 80 % are relevant, and half of those are cats; 75 of 100 are predicted as one.
    assert cat["estimated_share"] == pytest.approx(0.4) and cat["predicted_share"] == 0.75
    assert dog["precision"] is None


def test_the_files_and_the_terminal_say_the_same(tmp_path: Path) -> None:
    write_diagnosis(DIAGNOSIS, tmp_path)
    written = json.loads((tmp_path / "advice.json").read_text())
    assert diagnosis_lines(DIAGNOSIS) == [
        written["conclusion"], "unlabeled data: cannot tell, leaning to gain", "- So it is.",
        "self-supervision: no gain",
        "- Nothing to gain.", written["head_tail_gap"], written["theorem_1"], *written["copies"],
    ]  # fmt: skip
    assert written["estimates"]["relevance"] == {"value": 0.8, "low": 0.8, "high": 0.8}
    assert written["copies"] == ["left out of the unlabeled part: 2 exact copies of test images, such as a of b"]
    assert written["threshold_bias"] is None and written["labelled"]["rho"] == 8
    assert pq.read_table(tmp_path / "classes.parquet").to_pylist() == written["classes"] == class_rows(DIAGNOSIS)
