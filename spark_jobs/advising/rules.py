"""The rules of the advice: whether to expect a gain from unlabeled data and from self-supervision, and why.

Each rule is a statement of the paper (Yang & Xu 2020), arithmetic, or an observation
from trainings (docs/advice.md), applied to an estimate and its interval. Where the
interval includes the limit, the verdict is "cannot tell", and `leaning` is the verdict
for the estimate itself.
"""

from dataclasses import dataclass
from typing import Literal

from longtail.spark_jobs.advising.estimates import Estimate, Estimates
from longtail.spark_jobs.advising.wording import as_sentence, with_interval, with_percent_interval
from longtail.spark_jobs.display.tables import percent

MIN_RELEVANCE = 0.6
"""Below this, unlabeled data hurts (section 1 of the paper's results: about 60 %)."""
MIN_PSEUDO_LABEL_ACCURACY = 0.5
"""Below this, more pseudo-labels are wrong than correct."""
MIN_MISSED = 0.03
"""Share of a class's images, mean over classes, that labels alone must miss for anything to be gained."""
MIN_LABELLED = 500
"""Labelled images: with 840 and 1,167 pre-training gained, with 96 to 330 results varied randomly (docs/advice.md)."""

Verdict = Literal["gain", "no gain", "cannot tell"]


@dataclass(frozen=True)
class Advice:
    """A verdict.

    leaning: the verdict if all estimates were exact
    reasons: sentences, about the rules that decided
    """

    verdict: Verdict
    leaning: Verdict
    reasons: list[str]

    @property
    def summary(self) -> str:
        """The verdict, with its leaning if it has one."""
        return self.verdict if self.verdict == self.leaning else f"{self.verdict}, leaning to {self.leaning}"


def advise_on_unlabeled(found: Estimates, *, rho: float, tail_share: float) -> Advice:
    """Whether training on pseudo-labels of the unlabeled images is likely to help.

    rho, tail_share: of the labelled part: largest over smallest class, share of the tail half of the classes
    """
    checks = [
        _at_least(
            found.relevance,
            MIN_RELEVANCE,
            f"{with_percent_interval(found.relevance)} of the unlabeled images belong to the labelled classes",
            "below about 60 % unlabeled data hurts",
        ),
        _at_least(
            found.pseudo_label_accuracy,
            MIN_PSEUDO_LABEL_ACCURACY,
            f"{with_percent_interval(found.pseudo_label_accuracy)} of the pseudo-labels would be correct",
            "below a half, more of them are wrong than correct",
        ),
        _at_least(
            found.tail_share,
            tail_share / 2,
            f"{with_percent_interval(found.tail_share)} of the relevant images belong to the tail half of the classes, "
            f"of the labelled ones {percent(tail_share)} % (rho_U about {with_interval(found.rho)}, rho {rho:.3g})",
            "unlabeled data that is clearly more imbalanced than the labels adds little to the tail",
        ),
        _room_for_improvement(found),
    ]
    return _decide(checks, "so pseudo-labels should add images where labels are few")


def advise_on_self_supervision(found: Estimates, *, num_labelled: int) -> Advice:
    """Whether self-supervised pre-training is likely to help. num_labelled: the images that it is trained on

    A gap between head and tail is no condition: trainings gained without one as well.
    """
    checks = [_enough_images(num_labelled), _room_for_improvement(found)]
    return _decide(checks, "so features that are learned without labels should help")


_Check = tuple[Verdict, Verdict, str]
"""Verdict, leaning, and a sentence without its capital letter."""


def _at_least(estimate: Estimate, limit: float, finding: str, rule: str) -> _Check:
    if estimate.low >= limit:
        return "gain", "gain", f"{finding}."
    if estimate.high < limit:
        return "no gain", "no gain", f"{finding}: {rule}."
    leaning: Verdict = "gain" if estimate.value >= limit else "no gain"
    return "cannot tell", leaning, f"{finding}: {rule}, and the estimate is too uncertain to decide."


def _enough_images(num_labelled: int) -> _Check:
    finding = f"there are {num_labelled:,} labelled images to learn features from"
    if num_labelled >= MIN_LABELLED:
        return "gain", "gain", f"{finding}."
    return "cannot tell", "gain", f"{finding}: with fewer than {MIN_LABELLED}, gains and losses varied randomly."


def _room_for_improvement(found: Estimates) -> _Check:
    missed = 1 - float(found.recall.mean())
    finding = f"labels alone miss {percent(missed)} % of a class's images (mean over the classes)"
    if missed >= MIN_MISSED:
        return "gain", "gain", f"{finding}."
    return "no gain", "no gain", f"{finding}: hardly anything is left to gain."


def _decide(checks: list[_Check], consequence: str) -> Advice:
    """The worst check decides: "no gain", else "cannot tell", else "gain"."""
    leaning: Verdict = "no gain" if any(of_check == "no gain" for _, of_check, _ in checks) else "gain"
    verdicts: tuple[Verdict, ...] = ("no gain", "cannot tell")
    for verdict in verdicts:
        if decisive := [text for of_check, _, text in checks if of_check == verdict]:
            return Advice(verdict, leaning, [as_sentence(text) for text in decisive])
    *first, last = (as_sentence(text) for *_, text in checks)
    return Advice("gain", "gain", [*first, f"{last.removesuffix('.')}, {consequence}."])
