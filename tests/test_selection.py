"""Which pseudo-labels are kept (spark_jobs/frames/pseudo_label_selection.py): expected values by hand, in float64."""

from collections.abc import Sequence

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.spark_jobs.frames.pseudo_label_selection import (
    keep_confident,
    keep_top_k_per_class,
    with_aligned_distribution,
)
from longtail.spark_jobs.frames.spoilt_labels import with_spoilt_labels
from tests.frames import frame_of

SCHEMA = "id long, pseudo_label int, confidence float, margin float, probabilities array<float>"


def pseudo_labels(spark: SparkSession, probabilities: Sequence[Sequence[float]]) -> DataFrame:
    """Rows numbered from 0 with what follows from their probabilities."""
    rows = []
    for number, q in enumerate(probabilities):
        second, best = sorted(q)[-2:]
        rows.append((number, q.index(best), best, best - second, list(q)))
    return frame_of(spark, rows, SCHEMA)


def kept(frame: DataFrame) -> list[int]:
    return sorted(row.id for row in frame.collect())


HALVES = [[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [0.25, 0.625, 0.125], [0.875, 0.125, 0.0], [0.5, 0.0, 0.5]]


def test_a_threshold_keeps_what_is_as_confident_and_more(spark: SparkSession) -> None:
    table = pseudo_labels(spark, HALVES)
    assert kept(keep_confident(table, threshold=0.625)) == [1, 2, 3]
    assert kept(keep_confident(table, threshold=0.0)) == [0, 1, 2, 3, 4]
    # 0.1 is not a float32: what is said to be 0.1 must not fall below it.
    assert kept(keep_confident(pseudo_labels(spark, [[0.1] * 10]), threshold=0.1)) == [0]


def test_each_class_keeps_its_most_confident_and_of_equals_the_smallest_ids(spark: SparkSession) -> None:
    table = pseudo_labels(spark, HALVES)
    # Class 0: 3 (.875), 1 (.75), 0 and 4 (.5 each); class 1: 2.
    assert kept(keep_top_k_per_class(table, k=1)) == [2, 3]
    assert kept(keep_top_k_per_class(table, k=3)) == [0, 1, 2, 3]
    assert kept(keep_top_k_per_class(table.repartition(5).orderBy("confidence"), k=3)) == [0, 1, 2, 3]
    assert keep_top_k_per_class(table, k=3).columns == table.columns


def test_alignment_is_the_formula_and_all_columns_follow_it(spark: SparkSession) -> None:
    """By hand: means (.5, .5), target (.25, .75): q' of (.75, .25) is (.375, .375) / .75, a tie that class 0 takes."""
    table = pseudo_labels(spark, [[0.75, 0.25], [0.25, 0.75]])

    rows = sorted(with_aligned_distribution(table, target=[1, 3]).collect())

    assert rows[0].probabilities == [0.5, 0.5]
    assert (rows[0].pseudo_label, rows[0].confidence, rows[0].margin) == (0, 0.5, 0.0)
    assert rows[1].probabilities == pytest.approx([0.1, 0.9], abs=1e-7)  # (.125, 1.125) / 1.25
    assert (rows[1].pseudo_label, rows[1].confidence) == (1, rows[1].probabilities[1])
    assert rows[1].margin == pytest.approx(0.8, abs=1e-6)


def test_alignment_of_many_rows_is_the_formula_in_float64(spark: SparkSession) -> None:
    q = np.random.default_rng(0).dirichlet([4.0, 1.0, 0.5], size=300).astype(np.float32)
    target = np.array([40, 6, 1])
    expected = q.astype(np.float64) / q.astype(np.float64).mean(axis=0) * (target / target.sum())
    expected /= expected.sum(axis=1, keepdims=True)
    table = pseudo_labels(spark, q.tolist())

    aligned = with_aligned_distribution(table, target=target.tolist()).toArrow().sort_by("id")

    np.testing.assert_allclose(np.array(aligned["probabilities"].to_pylist()), expected, atol=1e-6)
    assert aligned["pseudo_label"].to_pylist() == expected.argmax(axis=1).tolist()
    assert aligned["pseudo_label"].to_pylist() != q.argmax(axis=1).tolist()


def test_alignment_does_not_depend_on_the_order_or_partitions_of_rows(spark: SparkSession) -> None:
    q = np.random.default_rng(1).dirichlet([1.0] * 4, size=500).astype(np.float32)
    table = pseudo_labels(spark, q.tolist())
    tables = [
        with_aligned_distribution(frame, target=[4, 3, 2, 1]).toArrow().sort_by("id")
        for frame in (table.coalesce(1), table.repartition(7, "confidence"))
    ]
    assert tables[0] == tables[1]  # to the last bit


def test_a_class_that_is_never_predicted_stays_at_zero_and_a_certain_image_is_unchanged(spark: SparkSession) -> None:
    table = pseudo_labels(spark, [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])

    rows = sorted(with_aligned_distribution(table, target=[0, 1, 1]).collect())

    assert rows[0].probabilities == [0.0, 1.0, 0.0]
    assert rows[1].probabilities == [1.0, 0.0, 0.0]  # all its weight is on a class without a share


def test_spoilt_labels_are_true_but_for_a_share_that_is_mistaken_as_the_classifier_does(spark: SparkSession) -> None:
    # Of class 0, the classifier takes every fourth image for class 1 and every eighth for class 2; of class 1 none.
    number = 4000
    targets = [0 if i % 2 else 1 for i in range(number)]
    taken = [1 if i % 8 == 1 else 2 if i % 16 == 3 else targets[i] for i in range(number)]
    rows = [(i, taken[i], 0.5, 0.1, [0.5, 0.4, 0.1], "v") for i in range(number)]
    predictions = frame_of(spark, rows, f"{SCHEMA}, model_version string")
    withheld = [(i, "unlabeled", targets[i] if i else None) for i in range(number)]
    prepared = frame_of(spark, withheld, "id long, split string, hidden_label int")

    def labels(share: float, partitions: int = 2) -> dict[int, int]:
        frame = predictions.repartition(partitions)
        found = with_spoilt_labels(frame, prepared, share=share, num_classes=3).collect()
        assert len(found) == number and found[0].asDict().keys() == set(predictions.columns)
        for row in found:
            if row.id:
                assert row.confidence == 1 and row.probabilities == [float(k == row.pseudo_label) for k in range(3)]
        return {row.id: row.pseudo_label for row in found}

    none, some, more = labels(0), labels(0.3), labels(0.6)
    assert [none[i] for i in range(1, number)] == targets[1:]
    assert none[0] == some[0] == taken[0]  # its class is unknown: it keeps its row
    wrong = {i for i in some if i and some[i] != targets[i]}
    # Class 1 is never mistaken. 30 % of 2,000 of class 0 are 600, and of these two in three become class 1.
    assert {targets[i] for i in wrong} == {0} and 520 < len(wrong) < 680
    assert 0.6 < sum(some[i] == 1 for i in wrong) / len(wrong) < 0.74
    assert wrong < {i for i in more if i and more[i] != targets[i]}
    assert labels(0.3, partitions=5) == some
