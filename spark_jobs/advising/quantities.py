"""The estimates of a diagnosis, each once: its name, its value with its interval, and the limit of the rules."""

from collections.abc import Callable
from dataclasses import dataclass

from longtail.spark_jobs.advising.estimates import Estimate, Estimates
from longtail.spark_jobs.advising.rules import MIN_HELD_OUT, MIN_MISSED, MIN_RELEVANCE, min_tail_share
from longtail.spark_jobs.advising.wording import with_interval, with_percent_interval
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.steps.label_quality import MIN_PSEUDO_LABEL_ACCURACY

NOT_SHOWN = "-"
FOOTNOTES = (
    f'intervals: 90 %; "{NOT_SHOWN}" rests on fewer than {MIN_HELD_OUT} held-out images',
    "head half, tail half: of the classes, with the most and the fewest labels; relevant: of any of your classes",
    "rho, rho_U: images of the largest class over those of the smallest, among labelled and relevant unlabeled images",
    "p, q: of relevant images predicted as classes of a half, those of that half, of whichever class; theorem 1's",
)


@dataclass(frozen=True)
class Quantity:
    """An estimate in words.

    text: value and interval; NOT_SHOWN if it rests on fewer than MIN_HELD_OUT images
    needed: the least value for a gain; empty if no rule is about it
    """

    name: str
    text: str
    needed: str = ""


def quantities(found: Estimates, *, rho: float, tail_share: float) -> list[Quantity]:
    """Of the unlabeled images first, then of the classifier. rho, tail_share: of the labelled images"""
    head, tail = found.held_out
    both, either = min(head, tail), head + tail

    def share(name: str, estimate: Estimate, held_out: int, needed: float | None = None) -> Quantity:
        limit = "" if needed is None else f"{percent(needed)} %"
        return Quantity(name, _shown(estimate, held_out, with_percent_interval), limit)

    return [
        share("relevance: of your classes", found.relevance, either, MIN_RELEVANCE),
        share("relevant with the right pseudo-label", found.pseudo_label_accuracy, either, MIN_PSEUDO_LABEL_ACCURACY),
        share(
            f"tail half (of the labelled: {percent(tail_share)} %)",
            found.tail_share,
            both,
            min_tail_share(tail_share),
        ),
        Quantity(f"rho_U (labelled: rho {rho:.3g})", _shown(found.rho, both, with_interval)),
        share("missed by labels alone, mean of classes", found.missed, either, MIN_MISSED),
        share("recall, head half", found.head_recall, head),
        share("recall, tail half", found.tail_recall, tail),
        share("gap of recall, head minus tail", found.recall_gap, both),
        share("p: predicted as head half, and of it", found.head_precision, both),
        share("q: predicted as tail half, and of it", found.tail_precision, both),
        Quantity("D = p - q", _shown(found.precision_difference, both, with_interval)),
    ]


def _shown(estimate: Estimate, held_out: int, wording: Callable[[Estimate], str]) -> str:
    return NOT_SHOWN if held_out < MIN_HELD_OUT else wording(estimate)
