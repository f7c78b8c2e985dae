"""Which images of a source are drawn for the parts of a long-tailed set: by a hash of their id and the seed.

Within a class of a split, the images of the lowest hashes are the validation images, the next ones the labelled
training images, and the next the unlabeled ones. The largest hash of each part tells of any image, wherever it is read,
which part it belongs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import NO_CLASS, SPLITS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL, SPLIT

WHOLE = (TEST, VAL)
"""Splits of a source of which all images are kept."""
DRAWN = (VAL, TRAIN, UNLABELED)
"""The parts that are drawn, in the order of the hashes."""

DrawLimits = Mapping[tuple[str, int], tuple[int | None, int | None, int | None]]
"""By split of the source and label: the largest hash of each of the DRAWN parts; None for no image."""

# Of XXH64.
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
    )
)  # fmt: skip
_SPARK_SEED = np.uint64(42)


def draw_hashes(ids: np.ndarray, seed: int) -> np.ndarray:
    """(N,) int64, what Spark's xxhash64(id, seed) gives for ids (N,) int64; different for different ids."""
    with np.errstate(over="ignore"):
        of_ids = _hash_long(ids.astype(np.int64).view(np.uint64), np.array(_SPARK_SEED))
        number = np.array(seed, np.int64).view(np.uint64)
        found = _hash_int(number, of_ids) if -(2**31) <= seed < 2**31 else _hash_long(number, of_ids)
    return found.view(np.int64)


def _hash_long(value: np.ndarray, seed: np.ndarray) -> np.ndarray:
    mixed = (seed + _P5 + np.uint64(8)) ^ (_rotated(value * _P2, 31) * _P1)
    return _avalanche(_rotated(mixed, 27) * _P1 + _P4)


def _hash_int(value: np.ndarray, seed: np.ndarray) -> np.ndarray:
    mixed = (seed + _P5 + np.uint64(4)) ^ ((value & np.uint64(0xFFFFFFFF)) * _P1)
    return _avalanche(_rotated(mixed, 23) * _P2 + _P3)


def _avalanche(mixed: np.ndarray) -> np.ndarray:
    mixed = (mixed ^ (mixed >> np.uint64(33))) * _P2
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _P3
    return mixed ^ (mixed >> np.uint64(32))


def _rotated(value: np.ndarray, bits: int) -> np.ndarray:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@dataclass(frozen=True)
class Draw:
    """The images that a set takes from its sources.

    limits: of the hashes
    seed: of the hashes
    left_out: ids (N,) of images that are in no part, sorted
    """

    limits: DrawLimits
    seed: int
    left_out: np.ndarray

    def parts_of(self, rows: pa.RecordBatch) -> dict[str, tuple[pa.RecordBatch, np.ndarray]]:
        """The rows of each part of the set, and their hashes (N,), of rows of a source (SOURCE_SCHEMA).

        id, image, label, hidden_label; the label of an unlabeled image is withheld.
        """
        ids, labels = rows.column(ID).to_numpy(), rows.column(LABEL).to_numpy()
        hashes = draw_hashes(ids, self.seed)
        part = self._part_numbers(rows, labels, hashes)
        part[np.isin(ids, self.left_out)] = -1
        found = {}
        for number, split in enumerate(SPLITS):
            chosen = np.flatnonzero(part == number)
            if len(chosen):
                of_part = rows if len(chosen) == len(ids) else rows.take(pa.array(chosen))
                found[split] = _as_prepared(of_part, split), hashes[chosen]
        return found

    def _part_numbers(self, rows: pa.RecordBatch, labels: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """(N,) index in SPLITS of each row's part, or -1."""
        part = np.full(len(labels), -1, np.int8)
        coded = pc.dictionary_encode(rows.column(SPLIT))
        codes = coded.indices.to_numpy()
        for code, split in enumerate(coded.dictionary.to_pylist()):
            of_split = codes == code
            if split in WHOLE:
                part[of_split] = SPLITS.index(split)
                continue
            for name, (limits, is_drawn) in zip(reversed(DRAWN), reversed(self._tables(split, labels)), strict=True):
                part[of_split & is_drawn & (hashes <= limits)] = SPLITS.index(name)
        return part

    def _tables(self, split: str, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of the DRAWN parts, the limit of each row (N,), and whether it has one (N,)."""
        classes, indices = np.unique(labels, return_inverse=True)
        found = [self.limits.get((split, label), (None, None, None)) for label in classes.tolist()]
        by_part = zip(*found, strict=True) if found else [()] * len(DRAWN)
        return [
            (
                np.array([limit or 0 for limit in limits], np.int64)[indices],
                np.array([limit is not None for limit in limits], bool)[indices],
            )
            for limits in by_part
        ]


def _as_prepared(rows: pa.RecordBatch, split: str) -> pa.RecordBatch:
    labels = rows.column(LABEL)
    nothing = pa.nulls(len(labels), pa.int32())
    if split == UNLABELED:
        labels, hidden = nothing, pc.if_else(pc.equal(labels, NO_CLASS), pa.scalar(None, pa.int32()), labels)
    else:
        hidden = nothing
    return pa.RecordBatch.from_arrays(
        [rows.column(ID), rows.column(IMAGE), labels, hidden], names=[ID, IMAGE, LABEL, HIDDEN_LABEL]
    )
