"""Sentences about a diagnosis as a whole: the two questions with their answers, and theorem 1."""

from longtail.spark_jobs.advising.rules import MIN_HELD_OUT, Advice
from longtail.spark_jobs.advising.threshold import PROBABILITY, ThresholdBias

UNLABELED_QUESTION = "Train with your unlabeled images?"
SELF_SUPERVISION_QUESTION = "Pre-train on your images without their labels first?"


def conclusion(unlabeled: Advice, self_supervision: Advice) -> str:
    """Both questions with their answers."""
    return f"{UNLABELED_QUESTION} {unlabeled.answer} {SELF_SUPERVISION_QUESTION} {self_supervision.answer}"


def threshold_sentence(bias: ThresholdBias | None, *, held_out: tuple[int, int]) -> str:
    """The estimates in the terms of theorem 1; p, q and D themselves are in advising/quantities.py.

    held_out: held-out images of the head half and of the tail half
    """
    if min(held_out) < MIN_HELD_OUT:
        return (
            f"In the terms of theorem 1 nothing is known: {held_out[0]} images of the head half of the classes were "
            f"held out and {held_out[1]} of the tail half, and it takes {MIN_HELD_OUT} of each."
        )
    if bias is None:
        return (
            "Theorem 1 does not apply: the held-out images do not separate head from tail, or all unlabeled images are "
            "predicted as one of them."
        )
    spread = (
        f"with probability {PROBABILITY:g} within {bias.deviation:.2f} of that"
        if bias.deviation is not None
        else "within a distance that the theorem's bound does not limit for so few images"
    )
    verdict = "nearer to it" if abs(bias.difference) < abs(bias.base) else "no nearer to it"
    return (
        "In the terms of theorem 1 (p, q and D above): with labels alone, the threshold between the halves of the "
        f"classes is {bias.base:+.2f} half gaps off the middle (at -1 half of the tail is missed); pseudo-labels would "
        f"put it D off, {spread}: {verdict}."
    )
