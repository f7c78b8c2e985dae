"""From estimates to advice: whether to expect a gain from unlabeled data, from self-supervision, and why.

Every rule is a sentence of the paper (Yang & Xu 2020), of arithmetic, or of what
trainings have shown (docs/advice.md), applied to an estimate and its interval; where
the interval lies on both sides, the answer is that the data does not tell, and to
which side the estimate itself leans.
"""

from dataclasses import dataclass
from typing import Literal

from longtail.spark_jobs.advising.estimates import Estimate, Estimates
from longtail.spark_jobs.advising.threshold import PROBABILITY, ThresholdBias
from longtail.spark_jobs.display.tables import percent

LEAST_RELEVANCE = 0.6
"""Below, unlabeled data hurts (section 1 of the paper's results: about 60 %)."""
LEAST_RIGHT = 0.5
"""Share of pseudo-labels that must be right for them to say more right than wrong."""
LEAST_MISSED = 0.03
"""Share of a class's images, mean over classes, that labels alone must miss for anything to be gained."""
LEAST_LABELLED = 500
"""Labelled images: with 840 and 1,167 pre-training gained, with 96 to 330 chance decided (docs/advice.md)."""

Verdict = Literal["gain", "no gain", "cannot tell"]


@dataclass(frozen=True)
class Advice:
    """leaning: the verdict if every estimate were exact; reasons: whole sentences, of what decides"""

    verdict: Verdict
    leaning: Verdict
    reasons: list[str]

    @property
    def said(self) -> str:
        return self.verdict if self.verdict == self.leaning else f"{self.verdict}, rather {self.leaning}"


def advice_on_unlabeled(found: Estimates, *, rho: float, tail_share: float) -> Advice:
    """Whether training on pseudo-labels of the unlabeled images is likely to help.

    rho, tail_share: of the labelled part: largest over smallest class, share of the tail half of its classes
    """
    checks = [
        _above(
            found.relevance, LEAST_RELEVANCE,
            f"{_percent(found.relevance)} of the unlabeled images are of the labelled classes",
            "below about 60 % unlabeled data hurts",
        ),
        _above(
            found.right, LEAST_RIGHT,
            f"{_percent(found.right)} of the pseudo-labels would be right",
            "less than half are more noise than news",
        ),
        _above(
            found.tail_share, tail_share / 2,
            f"{_percent(found.tail_share)} of the relevant images are of the tail half of the classes, of the labelled "
            f"ones {percent(tail_share)} % (rho_U about {_number(found.rho)}, rho {rho:.3g})",
            "unlabeled data that is clearly more imbalanced than the labels adds little to the tail",
        ),
        _room(found),
    ]  # fmt: skip
    return _decided(checks, "so pseudo-labels should add images where labels are few")


def advice_on_self_supervision(found: Estimates, *, num_labelled: int) -> Advice:
    """Whether pre-training without labels is likely to help; num_labelled: the images that it learns from.

    No gap between head and tail is asked for: trainings gained without one as well.
    """
    return _decided([_images(num_labelled), _room(found)], "so features that need no labels to be learned should help")


def gap_sentence(found: Estimates) -> str:
    """How much better the base classifier knows the head of the classes than the tail."""
    return (
        f"The base classifier recognises {_percent(found.head_recall)} of a class's images in the head half of the "
        f"classes and {_percent(found.tail_recall)} in the tail half: the gap is {_percent(found.recall_gap)}."
    )


_Check = tuple[Verdict, Verdict, str]
"""Verdict, leaning and sentence."""


def _above(estimate: Estimate, least: float, measured: str, rule: str) -> _Check:
    if estimate.low >= least:
        return "gain", "gain", f"{measured}."
    if estimate.high < least:
        return "no gain", "no gain", f"{measured}: {rule}."
    leaning: Verdict = "gain" if estimate.value >= least else "no gain"
    return "cannot tell", leaning, f"{measured}: {rule}, and the estimate is too uncertain to tell."


def _images(num_labelled: int) -> _Check:
    said = f"there are {num_labelled:,} labelled images to learn features from"
    if num_labelled >= LEAST_LABELLED:
        return "gain", "gain", f"{said}."
    return "cannot tell", "gain", f"{said}: with fewer than {LEAST_LABELLED} it has gained or cost, as chance had it."


def _room(found: Estimates) -> _Check:
    missed = 1 - float(found.recall.mean())
    said = f"labels alone miss {percent(missed)} % of a class's images (mean over the classes)"
    if missed >= LEAST_MISSED:
        return "gain", "gain", f"{said}."
    return "no gain", "no gain", f"{said}: there is hardly anything left to gain."


def _decided(checks: list[_Check], then: str) -> Advice:
    """The worst of the checks decides."""
    leaning: Verdict = "no gain" if any(of == "no gain" for _, of, _ in checks) else "gain"
    verdicts: tuple[Verdict, ...] = ("no gain", "cannot tell")
    for verdict in verdicts:
        if decisive := [text for of, _, text in checks if of == verdict]:
            return Advice(verdict, leaning, [_sentence(text) for text in decisive])
    texts = [_sentence(text) for *_, text in checks]
    return Advice("gain", "gain", [*texts[:-1], f"{texts[-1].removesuffix('.')}, {then}."])


def conclusion(unlabeled: Advice, self_supervision: Advice) -> str:
    """Both verdicts in a sentence."""
    names = {"unlabeled data": unlabeled.verdict, "self-supervised pre-training": self_supervision.verdict}
    gain, none, open_ = ([name for name, of in names.items() if of == kind] for kind in Verdict.__args__)
    if len(none) == 2:
        return "Expect a gain from neither unlabeled data nor self-supervised pre-training."
    parts = [
        (gain, "expect a gain from {}"), (none, "expect none from {}"), (open_, "the data does not tell about {}"),
    ]  # fmt: skip
    return _sentence("; ".join(text.format(" and ".join(names)) for names, text in parts if names) + ".")


def threshold_sentence(bias: ThresholdBias | None) -> str:
    """What theorem 1 makes of the estimates."""
    if bias is None:
        return (
            "Theorem 1 has nothing to say: the held-out images do not tell head from tail, or all unlabeled images "
            "are taken for one of them."
        )
    spread = (
        f"with probability {PROBABILITY:g} within {bias.deviation:.2f} of that"
        if bias.deviation is not None
        else "how near to that, its bound does not say for so few images"
    )
    verdict = "nearer to it" if abs(bias.difference) < abs(bias.base) else "no nearer to it"
    return (
        f"In the terms of theorem 1: {percent(bias.p)} % of the pseudo-labels of the head half are right (p) and "
        f"{percent(bias.q)} % of the tail half's (q), so D = {bias.difference:+.2f}. The threshold between the halves "
        f"lies {bias.base:+.2f} half gaps off the middle by labels alone (at -1 half of the tail is missed); "
        f"pseudo-labels would put it {bias.difference:+.2f} off, {spread}: {verdict}."
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _percent(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} % ({percent(estimate.low)} to {percent(estimate.high)})"


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"
