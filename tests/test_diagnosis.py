"""What a diagnosis reads, writes and says (spark_jobs/advising/diagnosis.py)."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.spark_jobs.advising.diagnosis import Diagnosis, class_rows, read_said, sentences, write_diagnosis
from longtail.spark_jobs.advising.estimates import Estimate, Estimates
from longtail.spark_jobs.advising.sentences import Advice


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
    said = read_said(spark, tmp_path / "p.parquet", "val", np.array([True, True, False]), most=9)
    assert said.labels is not None
    by_label = dict(zip(said.labels.tolist(), said.head_log_odds, strict=True))
    assert by_label[0] == pytest.approx(math.log(0.7 / 0.3), rel=1e-6)
    assert by_label[2] == pytest.approx(math.log(1 / 1e-12), rel=1e-6)  # a probability of 0 is taken for 1e-12
    assert {label: row.tolist() for label, row in zip(said.labels.tolist(), said.features, strict=True)} == {
        0: [1, 2], 2: [3, 4]
    }  # fmt: skip


def test_of_many_images_so_many_are_looked_at_and_unlabeled_ones_have_no_labels(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_predictions(tmp_path / "p.parquet")
    is_head = np.array([True, False, False])
    assert len(read_said(spark, tmp_path / "p.parquet", "val", is_head, most=1).predicted) == 1
    unlabeled = read_said(spark, tmp_path / "p.parquet", "unlabeled", is_head, most=9)
    assert unlabeled.labels is None and unlabeled.predicted.tolist() == [2]


def sure(value: float) -> Estimate:
    return Estimate(value, value, value)


DIAGNOSIS = Diagnosis(
    checkpoint=Path("/runs/base/ckpt.pth.tar"), class_names=["cat", "dog"], shot_groups=["many", "few"],
    is_head=np.array([True, False]), labelled=np.array([40, 5]), held_out=np.array([8, 1]),
    predicted=np.array([75, 25]), rho=8.0, tail_share=5 / 45, bias=None,
    on_unlabeled=Advice("cannot tell", "gain", ["So it is."]),
    on_self_supervision=Advice("no gain", "no gain", ["Nothing to gain."]),
    found=Estimates(
        relevance=sure(0.8), tail_share=sure(0.5), rho=sure(1.0), head_recall=sure(0.9),
        tail_recall=sure(0.6), recall_gap=sure(0.3), right=sure(0.6), head_precision=sure(0.7),
        tail_precision=sure(0.9), precision_difference=sure(-0.2), class_shares=np.array([0.5, 0.5]),
        recall=np.array([0.9, 0.6]), precision=np.array([0.7, np.nan]),
    ),
)  # fmt: skip


def test_a_class_s_shares_are_of_all_unlabeled_images_and_an_unknown_precision_is_null() -> None:
    cat, dog = class_rows(DIAGNOSIS)
    assert (cat["half"], cat["labelled"], cat["held_out"], cat["recall"]) == ("head", 40, 8, 0.9)
    # Of all, 80 % are relevant, and half of those are cats; 75 of 100 are taken for one.
    assert cat["estimated_share"] == pytest.approx(0.4) and cat["predicted_share"] == 0.75
    assert dog["precision"] is None


def test_what_is_written_is_what_is_said(tmp_path: Path) -> None:
    write_diagnosis(DIAGNOSIS, tmp_path)
    written = json.loads((tmp_path / "advice.json").read_text())
    assert sentences(DIAGNOSIS) == [
        written["conclusion"], "unlabeled data: cannot tell, rather gain", "- So it is.", "self-supervision: no gain",
        "- Nothing to gain.", written["head_tail_gap"], written["theorem_1"],
    ]  # fmt: skip
    assert written["estimates"]["relevance"] == {"value": 0.8, "low": 0.8, "high": 0.8}
    assert written["threshold_bias"] is None and written["labelled"]["rho"] == 8
    assert pq.read_table(tmp_path / "classes.parquet").to_pylist() == written["classes"] == class_rows(DIAGNOSIS)
