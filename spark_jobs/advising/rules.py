"""The rules of the advice: whether to expect a gain from unlabeled data and from self-supervision, and why.

Each rule is a statement of the paper (Yang & Xu 2020), arithmetic, or an observation
from trainings (docs/advice.md), applied to an estimate and its interval. Where the
interval includes the limit, or the estimate rests on fewer than MIN_HELD_OUT images,
the verdict is "cannot tell", and `leaning` is the verdict for the estimate itself.
The reasons are words: advising/quantities.py has the estimates.
"""

from dataclasses import dataclass, replace
from typing import Literal

from longtail.spark_jobs.advising.estimates import Estimate, Estimates
from longtail.spark_jobs.advising.wording import as_sentence
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.steps.label_quality import MIN_PSEUDO_LABEL_ACCURACY, TOO_FEW_RIGHT

MIN_RELEVANCE = 0.6
"""Below this, unlabeled data hurts (section 1 of the paper's results: about 60 %)."""
MIN_MISSED = 0.03
"""Share of a class's images, mean over classes, that labels alone must miss for anything to be gained."""
MIN_LABELLED = 500
"""Labelled images: with 840 and 1,167 pre-training gained, with 96 to 330 results varied randomly (docs/advice.md)."""
MIN_HELD_OUT = 10
"""Held-out images: an estimate that rests on fewer is not shown, and decides nothing. Of 9 images, all right, an exact
95 % interval of the recall begins at 66 %."""

_LONGER_TRAINING = (
    "Compare it with a training on the labels that is longer by the epochs of the pre-training: that gained less on "
    "Fashion-MNIST, and no less on CIFAR-10."
)
"""The gains that the rule rests on are those at equal epochs on the labels (docs/advice.md)."""

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

    @property
    def answer(self) -> str:
        """The verdict as the answer to a question."""
        if self.verdict == "cannot tell":
            return f"Cannot tell; the estimates lean to {'yes' if self.leaning == 'gain' else 'no'}."
        return "Probably." if self.verdict == "gain" else "Probably not."


def advise_on_unlabeled(found: Estimates, *, tail_share: float) -> Advice:
    """Whether training on pseudo-labels of the unlabeled images is likely to help.

    tail_share: share of the tail half of the classes among the labelled images
    """
    wanted = min_tail_share(tail_share)
    of_tail = "of the unlabeled images of your classes are of the rare half of the classes"
    checks = [
        _at_least(
            found.relevance,
            MIN_RELEVANCE,
            f"{_whole(MIN_RELEVANCE)} of the unlabeled images belong to your classes",
            "unlabeled data hurts",
            held_out=sum(found.held_out),
        ),
        _at_least(
            found.pseudo_label_accuracy,
            MIN_PSEUDO_LABEL_ACCURACY,
            f"{_whole(MIN_PSEUDO_LABEL_ACCURACY)} of the unlabeled images of your classes would get the right "
            f"pseudo-label (the class that the classifier predicts)",
            TOO_FEW_RIGHT,
            held_out=sum(found.held_out),
        ),
        _at_least(
            found.tail_share,
            wanted,
            f"{percent(wanted)} % {of_tail} ({percent(tail_share)} % of the labelled ones are)",
            "they add little to rare classes",
            held_out=min(found.held_out),
        ),
        _room_for_improvement(found),
    ]
    return _decide(checks, "so pseudo-labels should add images where labels are few")


def advise_on_self_supervision(found: Estimates, *, num_labelled: int) -> Advice:
    """Whether self-supervised pre-training is likely to help. num_labelled: the images that it is trained on

    A gap between head and tail is no condition: trainings gained without one as well.
    """
    checks = [_enough_images(num_labelled), _room_for_improvement(found)]
    advice = _decide(checks, "so features that are learned without labels should help")
    return replace(advice, reasons=[*advice.reasons, _LONGER_TRAINING]) if advice.verdict == "gain" else advice


def min_tail_share(of_labelled: float) -> float:
    """Share of the tail half that the relevant unlabeled images should have, given its share of the labelled ones."""
    return of_labelled / 2


_Check = tuple[Verdict, Verdict, str]
"""Verdict, leaning, and a sentence without its capital letter."""


def _at_least(estimate: Estimate, limit: float, claim: str, rule: str, *, held_out: int) -> _Check:
    """claim: that the limit is reached, after "at least"; rule: what follows if it is not

    held_out: the images that the estimate rests on
    """
    leaning: Verdict = "gain" if estimate.value >= limit else "no gain"
    if held_out < MIN_HELD_OUT:
        few = f"{held_out} labelled image{'' if held_out == 1 else 's'}"
        return "cannot tell", leaning, (
            f"too few images were held out to say whether at least {claim}: that rests on {few}, and takes "
            f"{MIN_HELD_OUT} or more."
        )  # fmt: skip
    if estimate.low >= limit:
        return "gain", "gain", f"at least {claim}."
    if estimate.high < limit:
        return "no gain", "no gain", f"less than {claim}: {rule}."
    return "cannot tell", leaning, f"the estimate is too uncertain to say whether at least {claim}; if not, {rule}."


def _whole(share: float) -> str:
    return f"{100 * share:g} %"


def _enough_images(num_labelled: int) -> _Check:
    finding = f"there are {num_labelled:,} labelled images to learn features from"
    if num_labelled >= MIN_LABELLED:
        return "gain", "gain", f"{finding}."
    return "cannot tell", "gain", f"{finding}: with fewer than {MIN_LABELLED}, gains and losses varied randomly."


def _room_for_improvement(found: Estimates) -> _Check:
    return _at_least(
        found.missed,
        MIN_MISSED,
        f"{_whole(MIN_MISSED)} of a class's images are missed with labels alone (mean over the classes)",
        "hardly anything is left to gain",
        held_out=sum(found.held_out),
    )


def _decide(checks: list[_Check], consequence: str) -> Advice:
    """The worst check decides: "no gain", else "cannot tell", else "gain"."""
    leaning: Verdict = "no gain" if any(of_check == "no gain" for _, of_check, _ in checks) else "gain"
    verdicts: tuple[Verdict, ...] = ("no gain", "cannot tell")
    for verdict in verdicts:
        if decisive := [text for of_check, _, text in checks if of_check == verdict]:
            return Advice(verdict, leaning, [as_sentence(text) for text in decisive])
    *first, last = (as_sentence(text) for *_, text in checks)
    return Advice("gain", "gain", [*first, f"{last.removesuffix('.')}, {consequence}."])
