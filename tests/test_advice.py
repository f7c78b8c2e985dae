"""The rules of the advice and its sentences (spark_jobs/advising/), and theorem 1's quantities, computed by hand."""

import math
from typing import Any

import numpy as np
import pytest

from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.estimates import ClassEstimates, Estimate, Estimates
from longtail.spark_jobs.advising.quantities import quantities
from longtail.spark_jobs.advising.rules import Advice, advise_on_self_supervision, advise_on_unlabeled
from longtail.spark_jobs.advising.sentences import conclusion, threshold_sentence
from longtail.spark_jobs.advising.threshold import ThresholdBias, estimate_threshold_bias

SURE = 0.01


def about(value: float, spread: float = SURE) -> Estimate:
    return Estimate(value, value - spread, value + spread)


def each(*values: float) -> ClassEstimates:
    return ClassEstimates(np.array(values), np.array(values) - SURE, np.array(values) + SURE)


def found(**changes: Any) -> Estimates:
    """Estimates that favour both: relevant, balanced unlabeled images, correct pseudo-labels, much left to gain."""
    values = {
        "relevance": about(0.95), "tail_share": about(0.5), "rho": about(1.0),
        "head_recall": about(0.9), "tail_recall": about(0.5), "recall_gap": about(0.4),
        "missed": about(0.3), "pseudo_label_accuracy": about(0.8), "held_out": (90, 10),
        "head_precision": about(0.65), "tail_precision": about(0.85), "precision_difference": about(-0.2),
        "class_shares": each(0.5, 0.5), "recall": each(0.9, 0.5), "precision": each(0.65, 0.85),
    }  # fmt: skip
    return Estimates(**{**values, **changes})


def on_unlabeled(**changes: Any) -> Advice:
    return advise_on_unlabeled(found(**changes), tail_share=0.15)


def test_relevant_images_with_correct_pseudo_labels_promise_a_gain() -> None:
    advice = on_unlabeled()
    assert (advice.verdict, advice.answer) == ("gain", "Probably.")
    assert advice.reasons[0] == "At least 60 % of the unlabeled images belong to your classes."
    assert "At least 7.5 % of the unlabeled images of your classes" in advice.reasons[2]
    assert advice.reasons[-1].endswith("so pseudo-labels should add images where labels are few.")


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        (
            {"relevance": about(0.5)},
            "no gain",
            "images belong to your classes: unlabeled data hurts.",
        ),
        (
            {"relevance": about(0.6, 0.1)},
            "cannot tell, leaning to gain",
            "uncertain to say whether at least 60 % of the unlabeled images belong to your classes; if not, unlabeled",
        ),
        (
            {"pseudo_label_accuracy": about(0.6)},
            "no gain",
            "predicts): on CIFAR-10, training on such pseudo-labels gained nothing or lost accuracy.",
        ),
        # Of the labelled images 15 % are of the tail half.
        ({"tail_share": about(0.05)}, "no gain", "(15.0 % of the labelled ones are): they add little to rare classes."),
        ({"tail_share": about(0.10)}, "gain", "so pseudo-labels should add images where labels are few."),
        (
            {"tail_share": about(0.07, 0.02)},
            "cannot tell, leaning to no gain",
            "if not, they add little to rare classes.",
        ),
        (
            {"missed": about(0.015)},
            "no gain",
            "Less than 3 % of a class's images are missed with labels alone (mean over the "
            "classes): hardly anything is left to gain.",
        ),
    ],
)
def test_the_rule_that_fails_decides_about_unlabeled_data(changes: dict[str, Any], verdict: str, reason: str) -> None:
    advice = on_unlabeled(**changes)
    assert advice.summary == verdict
    assert reason in advice.reasons[-1]


def test_only_decisive_reasons_are_given_and_no_gain_outweighs_a_doubt() -> None:
    advice = on_unlabeled(relevance=about(0.3), pseudo_label_accuracy=about(0.75, 0.2))
    assert advice.verdict == "no gain" and len(advice.reasons) == 1 and advice.reasons[0].startswith("Less")


@pytest.mark.parametrize(
    ("changes", "num_labelled", "verdict"),
    [
        ({}, 500, "gain"),
        ({}, 499, "cannot tell, leaning to gain"),
        ({"missed": about(0.015)}, 500, "no gain"),
        ({"missed": about(0.015)}, 499, "no gain"),
        ({"missed": about(0.035)}, 500, "cannot tell, leaning to gain"),
        # No gap between head and tail is needed.
        ({"recall_gap": about(0.0)}, 500, "gain"),
        # What is wrong with the unlabeled images does not matter: pre-training uses the labelled ones.
        ({"relevance": about(0.1), "pseudo_label_accuracy": about(0.1)}, 500, "gain"),
    ],
)
def test_self_supervision_needs_enough_images(changes: dict[str, Any], num_labelled: int, verdict: str) -> None:
    advice = advise_on_self_supervision(found(**changes), num_labelled=num_labelled)
    assert advice.summary == verdict
    assert any("longer by the epochs of the pre-training" in reason for reason in advice.reasons) == (verdict == "gain")


@pytest.mark.parametrize("held_out", [(90, 9), (9, 90)])
def test_what_rests_on_fewer_than_ten_held_out_images_decides_nothing_and_is_not_shown(held_out: Any) -> None:
    advice = on_unlabeled(held_out=held_out)
    assert advice.verdict == "cannot tell" and advice.answer == "Cannot tell; the estimates lean to yes."
    (reason,) = advice.reasons
    assert reason.startswith("Too few images were held out to say whether at least 7.5 %")
    assert reason.endswith("that rests on 9 labelled images, and takes 10 or more.")
    assert on_unlabeled(held_out=(10, 10)).verdict == "gain"
    shown = {row.name: row.text for row in quantities(found(held_out=held_out), rho=20, tail_share=0.15)}
    few, many = ("head", "tail") if held_out[0] < held_out[1] else ("tail", "head")
    assert shown[f"recall, {few} half"] == shown["D = p - q"] == shown["rho_U (labelled: rho 20)"] == "-"
    assert shown[f"recall, {many} half"] != "-" and shown["relevance: of your classes"] == "95.0 % (94.0 to 96.0)"
    assert "nothing is known: 90 images" in threshold_sentence(None, held_out=(90, 9))


def test_each_estimate_is_listed_once_with_its_interval_and_its_limit() -> None:
    rows = quantities(found(), rho=20, tail_share=0.15)
    assert len({row.name for row in rows}) == len(rows) == sum(isinstance(x, Estimate) for x in vars(found()).values())
    listed = {row.name: (row.text, row.needed) for row in rows}
    assert listed["relevance: of your classes"] == ("95.0 % (94.0 to 96.0)", "60.0 %")
    assert listed["relevant with the right pseudo-label"] == ("80.0 % (79.0 to 81.0)", "75.0 %")
    assert listed["tail half (of the labelled: 15.0 %)"] == ("50.0 % (49.0 to 51.0)", "7.5 %")
    assert listed["rho_U (labelled: rho 20)"] == ("1 (0.99 to 1.01)", "")
    assert listed["missed by labels alone, mean of classes"] == ("30.0 % (29.0 to 31.0)", "3.0 %")
    assert listed["gap of recall, head minus tail"] == ("40.0 % (39.0 to 41.0)", "")
    assert listed["p: predicted as head half, and of it"] == ("65.0 % (64.0 to 66.0)", "")
    assert listed["D = p - q"] == ("-0.2 (-0.21 to -0.19)", "")


def test_the_conclusion_answers_both_questions() -> None:
    one, two = Advice("gain", "gain", []), Advice("cannot tell", "no gain", [])
    assert conclusion(one, two) == (
        "Train with your unlabeled images? Probably. Pre-train on your images without their labels first? Cannot tell; "
        "the estimates lean to no."
    )
    assert Advice("no gain", "no gain", []).answer == "Probably not."


IS_HEAD = np.array([True, True, False])


def held_out(predicted: list[int], odds: list[float], labels: list[int]) -> HeldOutOutput:
    features = np.zeros((len(predicted), 1))
    return HeldOutOutput(
        predicted=np.array(predicted), features=features, head_log_odds=np.array(odds), labels=np.array(labels)
    )


def unlabeled_images(predicted: list[int]) -> ClassifierOutput:
    number = len(predicted)
    return ClassifierOutput(
        predicted=np.array(predicted), features=np.zeros((number, 1)), head_log_odds=np.zeros(number)
    )


def test_the_bias_is_measured_in_half_gaps_between_the_halves_means() -> None:
    # Class 0: mean 3, class 1: mean 7, so the head half 5; the tail half 1. The middle is 3, a half gap is 2.
    val = held_out([0] * 5, [2, 4, 7, 0, 2], [0, 0, 1, 2, 2])
    bias = estimate_threshold_bias(val, unlabeled_images([0, 1, 1, 2]), found(), is_head=IS_HEAD)
    assert bias is not None
    assert (bias.mu1, bias.mu2, bias.num_positive, bias.num_negative) == (5, 1, 3, 1)
    assert bias.base == -1.5  # the classifier decides at odds of 0, three below the middle
    assert bias.difference == pytest.approx(-0.2)
    # Off the halves' means by 3, 1, 2, 1 and 1.
    assert bias.sigma == pytest.approx(math.sqrt((9 + 1 + 4 + 1 + 1) / 5))
    assert bias.deviation is None  # four images


def test_the_deviation_is_where_the_theorem_s_bound_reaches_its_probability() -> None:
    val = held_out([0] * 4, [1, 3, -1, -3], [0, 0, 2, 2])  # means 2 and -2, sigma 1, half gap 2
    n = 10_000
    bias = estimate_threshold_bias(val, unlabeled_images([0] * n + [2] * n), found(), is_head=IS_HEAD)
    assert bias is not None and bias.deviation is not None
    delta = 2 * bias.deviation
    bound = 1 - 2 * math.exp(-2 * delta**2 / 9 * n / 2) - 4 * math.exp(-8 * n * delta**2 / (9 * 16))
    assert bound == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    ("val", "unlabeled"),
    [
        (held_out([0, 2], [1, 2], [0, 2]), unlabeled_images([0, 2])),  # the tail looks more like the head
        (held_out([0, 0], [1, 2], [0, 0]), unlabeled_images([0, 2])),  # nothing of the tail is held out
        (held_out([0, 2], [2, 1], [0, 2]), unlabeled_images([0, 1])),  # all are predicted as the head
    ],
)
def test_without_two_halves_there_is_no_threshold(val: HeldOutOutput, unlabeled: ClassifierOutput) -> None:
    assert estimate_threshold_bias(val, unlabeled, found(), is_head=IS_HEAD) is None
    assert threshold_sentence(None, held_out=(10, 10)).startswith("Theorem 1 does not apply")


def test_the_sentence_says_whether_pseudo_labels_bring_the_threshold_nearer_to_the_middle() -> None:
    bias = ThresholdBias(
        mu1=5, mu2=1, sigma=1, num_positive=3, num_negative=1, p=0.65, q=0.85, base=-1.5, difference=-0.2,
        deviation=0.25,
    )  # fmt: skip
    sentence = threshold_sentence(bias, held_out=(10, 10))
    assert "with labels alone, the threshold between the halves of the classes is -1.50 half gaps off" in sentence
    assert sentence.endswith("would put it D off, with probability 0.9 within 0.25 of that: nearer to it.")
