"""The section of a report about right and wrong pseudo-labels."""

from collections.abc import Sequence
from statistics import fmean

from longtail.spark_jobs.studies.label_gains import (
    LabelGain,
    by_setting,
    fit_gains,
    fit_thresholds,
    gain_sentence,
    threshold_sentence,
)
from longtail.spark_jobs.studies.markdown_parts import markdown_table

_THEOREM_1 = (
    "Theorem 1 has two classes, here the halves of the classes, and says where the threshold between them goes that is "
    "learned from pseudo-labels alone: p - q from the middle between their means, if p and q are the shares of the "
    "pseudo-labels of the head and of the tail half that are of this half, and the unit is half the distance of the "
    "means. Above zero, images of the head half are missed. The measured threshold is that of two normal distributions "
    "of equal width which miss as many test images of each half as the classifier does; it has also learned from the "
    "labelled images. Means over the seeds:"
)


def right_labels_section(gains: Sequence[LabelGain]) -> list[str]:
    """The fits, and theorem 1 beside the trials; empty where there is neither."""
    settings = by_setting(gains)
    lines = [
        f"- {gain_sentence(name, fit)}" for name, found in settings.items() if (fit := fit_gains(found)) is not None
    ]
    known = [gain for gain in gains if gain.predicted is not None]
    theorem = [_THEOREM_1, _thresholds_table(known)] if known else []
    theorem += [
        f"- {threshold_sentence(name, fit)}"
        for name, found in by_setting(known).items()
        if (fit := fit_thresholds(found)) is not None
    ]
    return ["## What right pseudo-labels are worth", *lines, *theorem] if lines or theorem else []


def _thresholds_table(gains: Sequence[LabelGain]) -> str:
    arms: dict[tuple[str, str], list[LabelGain]] = {}
    for setting, found in by_setting(gains).items():
        for gain in found:
            arms.setdefault((setting, gain.level), []).append(gain)
    body = [
        [
            *arm,
            f"{100 * fmean(gain.correct for gain in found):.1f}",
            f"{100 * fmean(gain.gain for gain in found):+.1f}",
            *(
                _mean([getattr(gain, name) for gain in found])
                for name in ("predicted", "measured", "before")
            ),
        ]
        for arm, found in arms.items()
    ]  # fmt: skip
    header = ["setting", "level", "correct, %", "gain", "p - q", "measured threshold", "of labels alone"]
    return markdown_table(header, body, numbers_from=2)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):+.2f}" if known else "-"
