"""The values that the fields of an event may have; a line with any other value goes to the quarantine. No Spark.

Both readers of lines (streaming/parsing) apply these bounds, so that sums over any number of classes stay within 64
bits, times are dates, and class indices are small enough to allocate a vector of that length.
"""

from longtail.conf.vocabulary import HELD_OUT_SPLITS, SHOT_GROUPS, TRAIN, UNLABELED
from longtail.streaming.events.schema import RUN_STATES

COUNT_DIGITS = 12
"""An integer is a count from 0 to 10^12 - 1, if INTEGER_DIGITS does not name its field."""

INTEGER_DIGITS = {
    "attempt": 6, "round": 6, "epoch": 6, "num_epochs": 6, "step": 9, "num_steps": 9,
    "class_id": 5, "true_class": 5, "predicted_class": 5, "window_seconds": 8,
}  # fmt: skip
"""The number of decimal digits that the largest value of a field has: class indices go up to 99,999."""

POSITIVE = frozenset({"attempt", "round", "num_epochs", "step", "num_steps", "window_seconds"})
"""Integers that are at least 1."""

REALS = {
    "emitted_at": (0.0, 253_402_300_799.0),  # the last second of the year 9999
    "epoch_seconds": (0.0, 1e9),
    "images_per_second": (0.0, 1e12),
    "learning_rate": (0.0, 1e12),
    **dict.fromkeys(("positive_rank", "num_candidates"), (1.0, 1e12)),
    "window_start": (-62_135_596_800.0, 253_402_300_799.0),  # from the first second of the year 1
    **dict.fromkeys(("estimated_share", "share_low", "share_high"), (0.0, 1.0)),
    **dict.fromkeys(("confidence_squares", "reference_confidence_sum", "reference_confidence_squares"), (0.0, 1e12)),
}
"""Lowest and highest value of real fields, which are finite. Any other real number may be infinite or NaN."""

NOT_ABOVE = {
    "correct": "support", "epoch": "num_epochs", "step": "num_steps",
    "novel": "predicted", "reference_novel": "reference_predicted", "correct_count": "pseudo_label_count",
}  # fmt: skip
"""Integers that are at most the value of another field, where an event kind has both."""

ONE_OF = {
    "state": RUN_STATES,
    "split": (TRAIN, *HELD_OUT_SPLITS, UNLABELED),
    "shot_group": SHOT_GROUPS,
}
"""The texts that a field may have."""

TEXT_BYTES = 4096
"""Longest text in UTF-8, if LONG_TEXTS does not name its field."""

LONG_TEXTS = {"configuration": 1 << 20, "message": 1 << 16}
"""Longest text of a field, in UTF-8 bytes."""

MAX_NESTING = 100
"""Levels of objects and arrays in `configuration`, itself included; parsers of JSON fail at different depths."""


def integer_range(name: str) -> tuple[int, int]:
    """Lowest and highest value of an integer field."""
    return int(name in POSITIVE), 10 ** INTEGER_DIGITS.get(name, COUNT_DIGITS) - 1


def longest_text(name: str) -> int:
    """Longest text of a field, in UTF-8 bytes."""
    return LONG_TEXTS.get(name, TEXT_BYTES)
