"""What pseudo-labels say of the unlabeled part (streaming/derived.py), against values computed by hand."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from longtail.streaming.class_shares import estimate_class_shares
from longtail.streaming.events.schema import ConfusionEvent, Event, PseudoLabelEvent
from tests.arrow_tables import arrow_tables
from tests.events import an_event, class_event


def labelling(counts: list[int], confidence: float | None = 0.8, **changes: Any) -> list[Event]:
    """100 and 50 labels of two classes, and these pseudo-labels."""
    return [
        an_event(
            PseudoLabelEvent, class_id=c, labelled_count=(100, 50)[c], pseudo_label_count=count,
            mean_confidence=confidence if count else None, **changes,
        )
        for c, count in enumerate(counts)
    ]  # fmt: skip


# Held out, a tenth of the head is taken for the tail, and two fifths of the tail for the head.
MISTAKES = [(0, 0, 9), (0, 1, 1), (1, 0, 4), (1, 1, 6)]
CELLS = [
    an_event(ConfusionEvent, split="val", true_class=true, predicted_class=predicted, count=count)
    for true, predicted, count in MISTAKES
]
HELD_OUT = [class_event(split="val", class_id=c, support=10, correct=6, confidence_sum=(9.0, 7.0)[c]) for c in (0, 1)]
OF_A_CLASS_LESS = [dataclasses.replace(event, run="less", epoch=2) for event in (*CELLS, HELD_OUT[0])]
OF_TEST = [dataclasses.replace(event, run="tested", split="test") for event in (*CELLS, *HELD_OUT)]


Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def tables() -> Tables:
    """The rows of both tables for the runs of all tests."""
    told = [
        *labelling([310, 90]), *CELLS, *HELD_OUT,
        *labelling([310, 90], run="tested"), *OF_TEST,
        *labelling([310, 90], run="less"), *OF_A_CLASS_LESS,
        *(dataclasses.replace(event, run="less") for event in (*CELLS, *HELD_OUT)),
        *labelling([310, 90], run="unmeasured"), *labelling([0, 0], run="none"), *labelling([5, 0], run="one"),
        *labelling([310, 90], run="again"), *labelling([200, 200], run="again", emitted_at=2000.0),
    ]  # fmt: skip
    found = arrow_tables(told)
    return {name: found[name].to_pylist() for name in ("unlabeled_estimates", "pseudo_labels")}


def test_the_imbalance_of_the_unlabeled_part_is_told_without_its_labels(tables: Tables) -> None:
    # 75 images of the head and 25 of the tail: .9 x 75 + .4 x 25 = 77.5 are taken for the head; of 400, 310 and 90.
    (row,) = (row for row in tables["unlabeled_estimates"] if row["run"] == "base")

    assert row["num_pseudo_labels"] == 400
    assert row["rho"] == 2
    assert row["rho_pseudo_labels"] == 310 / 90
    assert row["rho_unlabeled"] == pytest.approx(3, rel=1e-6)
    assert row["mean_confidence"] == pytest.approx(0.8)
    assert row["expected_confidence"] == pytest.approx(0.75 * 0.9 + 0.25 * 0.7, rel=1e-6)
    p, q = (310 / 400, 90 / 400), (2 / 3, 1 / 3)
    assert row["histogram_divergence"] == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def test_without_held_out_images_or_pseudo_labels_nothing_is_made_up(tables: Tables) -> None:
    rows = {row["run"]: row for row in tables["unlabeled_estimates"]}

    assert (rows["tested"]["rho_unlabeled"], rows["tested"]["expected_confidence"]) == (None, None), "of test labels"
    assert (rows["unmeasured"]["rho_unlabeled"], rows["unmeasured"]["expected_confidence"]) == (None, None)
    assert (rows["none"]["rho_pseudo_labels"], rows["none"]["mean_confidence"]) == (None, None)
    assert (rows["one"]["rho_pseudo_labels"], rows["one"]["mean_confidence"]) == (math.inf, 0.8)


def test_a_class_that_the_latest_epoch_held_out_no_image_of_has_no_confidence(tables: Tables) -> None:
    (row,) = (row for row in tables["unlabeled_estimates"] if row["run"] == "less")

    assert row["expected_confidence"] == pytest.approx(0.9), "of the head, 9 of 10, and not of the tail an epoch before"


def test_shares_are_found_again_from_what_the_mistakes_make_of_them() -> None:
    """Against the inverse of the confusion matrix; a class that was never held out is taken to be predicted right."""
    confusion = np.array([[8, 1, 1, 0], [2, 6, 2, 0], [1, 2, 7, 0], [0, 0, 0, 0]], float)
    true = np.array([0.5, 0.2, 0.1, 0.2])
    given_true = confusion / np.array([10, 10, 10, 1])[:, None]
    given_true[3, 3] = 1.0

    found = estimate_class_shares(1e6 * true @ given_true, csr_array(confusion))

    assert found == pytest.approx(np.linalg.solve(given_true.T, true @ given_true), abs=1e-4)


def test_predictions_that_no_held_out_image_got_tell_nothing_of_the_shares() -> None:
    confusion = csr_array(np.array([[5.0, 0, 0], [5, 0, 0], [5, 0, 0]]))

    assert estimate_class_shares(np.array([0.0, 7, 3]), confusion) is None


def test_a_labelling_again_replaces_the_one_before(tables: Tables) -> None:
    rows = [row for row in tables["pseudo_labels"] if row["run"] == "again"]

    assert sorted(row["pseudo_label_count"] for row in rows) == [200, 200]
