"""Finds copies of images between the parts of a set, and keeps those of held-out images out of the unlabeled part."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.base.shown_text import printable
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import ID, SPLIT
from longtail.data.draws import DrawLimits
from longtail.data.sources.base import Shard
from longtail.spark_jobs.cluster.cancellation import Call, run_to_their_end
from longtail.spark_jobs.frames.copies import (
    HELD_OUT,
    NUM_EXAMPLES,
    OF,
    with_conflicting_contents,
    with_copies,
    with_copy_counts,
    with_label_conflicts,
    with_matches,
)
from longtail.spark_jobs.frames.long_tail import LongTail, keep_long_tail
from longtail.spark_jobs.frames.reading import persisted

IMAGES_PER_TASK = 50_000
"""So many are compared by a task, each in up to five ways."""


@dataclass(frozen=True)
class Copies:
    """Copies that were found, as the manifest describes them.

    left_out: ids of the images that may not be in the unlabeled part; None if there are none
    """

    left_out: DataFrame | None
    found: list[dict[str, Any]]
    num_label_conflicts: int
    label_conflicts: list[str]

    @property
    def num_left_out(self) -> int:
        """Images that were left out of the unlabeled part."""
        return sum(row["num_images"] for row in self.found if row["left_out"])


@contextmanager
def found_copies(
    fingerprints: DataFrame,
    candidates: LongTail,
    limits: DrawLimits,
    options: DataOptions,
    names: "ImageNames",
    *,
    num_images: int,
    near: bool,
) -> Iterator[Copies]:
    """The copies among the images of a set, and among all that could be in its unlabeled part.

    candidates, limits: the sizes of with_all_candidates(), and the limits of the draw for them
    num_images: of the fingerprints
    near: whether near copies can be found
    """
    spark, conflicts = fingerprints.sparkSession, Call(partial(_label_conflicts, fingerprints, names))
    has_unlabeled = sum(candidates.unlabeled) + candidates.classless > 0
    if not (has_unlabeled or near):
        run_to_their_end(spark, conflicts)
        yield Copies(None, [], *conflicts.value)
        return
    parts = keep_long_tail(fingerprints, limits, seed=options.rand_number)
    num_tasks = 1 + num_images // IMAGES_PER_TASK
    with ExitStack() as held:
        matches = held.enter_context(persisted(with_matches(parts, near=near, num_tasks=num_tasks)))
        num_candidates = Call(matches.where(F.col("of_id").isNull()).count)
        run_to_their_end(spark, conflicts, num_candidates)
        some_near = num_candidates.value > 0
        copies = held.enter_context(persisted(with_copies(parts, matches, near=some_near, num_tasks=num_tasks)))
        is_left_out = F.lit(not options.keep_labelled_copies) | F.col(OF).isin(*HELD_OUT)
        left_out = copies.where((F.col(SPLIT) == UNLABELED) & is_left_out).select(ID)
        counts = Call(lambda: with_copy_counts(copies).collect())
        run_to_their_end(spark, counts)
        rows = [_description(row.asDict(), options, names) for row in counts.value]
        some = any(row["left_out"] for row in rows)
        yield Copies(left_out if some else None, rows, *conflicts.value)


def with_all_candidates(counts: LongTail, found: Mapping[tuple[str, int], int]) -> LongTail:
    """The planned sizes with every image in the unlabeled part that could be in it, if there is one."""
    every = list(counts.unlabeled)
    if any(every):
        every = [found.get((counts.pool, label), 0) for label in range(len(every))]
        if counts.pool == TRAIN:
            held_out = [0] * len(every) if counts.has_own_val else counts.val
            every = [size - val - train for size, val, train in zip(every, held_out, counts.train, strict=True)]
    return replace(counts, unlabeled=every, classless=counts.classless and found[UNLABELED, NO_CLASS])


def _description(row: dict[str, Any], options: DataOptions, names: "ImageNames") -> dict[str, Any]:
    """A row of with_copy_counts as the manifest has it, with names for ids."""
    left_out = row[SPLIT] == UNLABELED and (row[OF] in HELD_OUT or not options.keep_labelled_copies)
    examples = [[names[example[ID]], names[example["of_id"]]] for example in row["examples"]]
    return {**row, "left_out": left_out, "examples": examples}


def _label_conflicts(fingerprints: DataFrame, names: "ImageNames") -> tuple[int, list[str]]:
    """Contents with more than one class: their number, and examples."""
    num_conflicts = with_conflicting_contents(fingerprints).count()
    if not num_conflicts:
        return 0, []
    return num_conflicts, [
        " and ".join(f"{names[image[ID]]} ({names.class_names[image['class_id']]})" for image in row)
        for row in with_label_conflicts(fingerprints).orderBy("first").limit(NUM_EXAMPLES).collect()
    ]


class ImageNames:
    """Names of images by id."""

    def __init__(self, shards: Sequence[tuple[int, Shard]], class_names: Sequence[str]) -> None:
        """shards: with the id of the first image of each"""
        self.class_names = class_names
        self._shards = sorted(shards, key=lambda numbered: numbered[0])
        self._first_ids = [first_id for first_id, _ in self._shards]

    def __getitem__(self, image_id: int) -> str:
        first_id, shard = self._shards[bisect_right(self._first_ids, image_id) - 1]
        return printable(shard.image_name(image_id - first_id))
