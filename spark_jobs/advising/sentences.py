"""Sentences about a diagnosis as a whole: the conclusion, the gap between head and tail, and theorem 1."""

from longtail.spark_jobs.advising.estimates import Estimates
from longtail.spark_jobs.advising.rules import Advice
from longtail.spark_jobs.advising.threshold import PROBABILITY, ThresholdBias
from longtail.spark_jobs.advising.wording import as_sentence, with_percent_interval
from longtail.spark_jobs.display.tables import percent


def conclusion(unlabeled: Advice, self_supervision: Advice) -> str:
    """Both verdicts in one sentence."""
    verdicts = {"unlabeled data": unlabeled.verdict, "self-supervised pre-training": self_supervision.verdict}
    if set(verdicts.values()) == {"no gain"}:
        return "Expect a gain from neither unlabeled data nor self-supervised pre-training."
    texts = {
        "gain": "expect a gain from {}",
        "no gain": "expect none from {}",
        "cannot tell": "the data cannot tell about {}",
    }
    names = {verdict: [name for name, of_name in verdicts.items() if of_name == verdict] for verdict in texts}
    parts = [text.format(" and ".join(names[verdict])) for verdict, text in texts.items() if names[verdict]]
    return as_sentence("; ".join(parts) + ".")


def gap_sentence(found: Estimates) -> str:
    """The base classifier's recall on the head and on the tail half of the classes."""
    return (
        f"The base classifier recognises {with_percent_interval(found.head_recall)} of a class's images in the head "
        f"half of the classes and {with_percent_interval(found.tail_recall)} in the tail half: the gap is "
        f"{with_percent_interval(found.recall_gap)}."
    )


def threshold_sentence(bias: ThresholdBias | None) -> str:
    """The estimates in the terms of theorem 1."""
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
        f"In the terms of theorem 1: {percent(bias.p)} % of the pseudo-labels of the head half are correct (p) and "
        f"{percent(bias.q)} % of the tail half's (q), so D = {bias.difference:+.2f}. With labels alone, the threshold "
        f"between the halves is {bias.base:+.2f} half gaps off the middle (at -1 half of the tail is missed); "
        f"pseudo-labels would put it {bias.difference:+.2f} off, {spread}: {verdict}."
    )
