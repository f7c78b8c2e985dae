"""Matches images with the originals that they may be copies of, by their fingerprints, in arrays.

Unlabeled images are compared with all others, labelled ones with test images. Candidates have the same content, or
agree in a whole band of the hash. Each image is sent to the task of its content and to those of its bands, so that no
task needs all images. Sketches, most of a fingerprint, are sent in a second round only, of the few images that have a
candidate with nearly the same hash.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, SPLIT
from longtail.data.fingerprints import (
    BAND_BITS,
    CONTENT,
    HASH,
    MAX_BITS,
    NUM_BANDS,
    NUM_FREQUENCIES,
    SKETCH,
    are_near_copies,
)

LABELLED = "labelled"
ORIGINALS = (TEST, VAL, LABELLED)
"""What an image may be a copy of, the most important first."""

PAIR_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64()),
        pa.field(SPLIT, pa.string()),
        # Null if it is none.
        pa.field("class_id", pa.int32()),
        # The index in ORIGINALS of what it is a copy of.
        pa.field("place", pa.int32()),
        pa.field("is_near", pa.bool_()),
        pa.field("of_id", pa.int64()),
        pa.field("of_class", pa.int32()),
    ]
)
"""An image and one that it is a copy of; or an image that has candidates for near copies (of_id is null)."""

IMAGES_AT_ONCE = 100_000
PAIRS_AT_ONCE = 1_000_000
CONTENT_BAND = NUM_BANDS
"""In the place of a band of the hash: the content."""
_PARTS = np.array([TEST, VAL, TRAIN, UNLABELED])
"""In the order of ORIGINALS, unlabeled images last."""
_TEST, _UNLABELED = 0, 3


def _image_type(*, sketches: bool) -> np.dtype:
    """Of an image in a block. band: 0 to NUM_BANDS - 1, or CONTENT_BAND."""
    fields = [
        ("band", np.int8), ("part", np.int8), ("class_id", np.int32), ("id", np.int64), ("content", np.int64),
        ("hash", np.int64), ("sketch", np.float16, (NUM_FREQUENCIES,)),
    ]  # fmt: skip
    return np.dtype(fields if sketches else fields[:-1])


def spread(
    batches: Iterator[pa.RecordBatch], *, bands: Sequence[int], sketches: bool, num_tasks: int
) -> Iterator[pa.RecordBatch]:
    """Blocks of images for the tasks that compare them: task, block.

    batches: ID, SPLIT, class_id, CONTENT, HASH and, with sketches, SKETCH
    bands: by which images are compared
    """
    held: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        held.append(batch)
        num_rows += batch.num_rows
        if num_rows >= IMAGES_AT_ONCE:
            yield from _blocks(pa.Table.from_batches(held), bands, sketches=sketches, num_tasks=num_tasks)
            held, num_rows = [], 0
    if num_rows:
        yield from _blocks(pa.Table.from_batches(held), bands, sketches=sketches, num_tasks=num_tasks)


def matched(batches: Iterator[pa.RecordBatch], *, sketches: bool) -> Iterator[pa.RecordBatch]:
    """The copies (PAIR_SCHEMA) among the images of one task's blocks; a pair may occur several times.

    sketches: whether the blocks have them; without, only the images that have candidates for near copies are found
    """
    contents = [np.frombuffer(block.as_buffer(), np.uint8) for batch in batches for block in batch.column(1)]
    if not contents:
        return
    images = np.concatenate(contents).view(_image_type(sketches=sketches))
    by_content = images["band"] == CONTENT_BAND
    same = images[by_content]
    for a, b in _pairs(same, same["content"]):
        yield _pair_rows(same[a], same[b], near=False)
    alike = images[~by_content]
    looked_at = np.zeros(len(alike), bool)
    for a, b in _pairs(alike, _bits(alike["hash"], alike["band"]) + (alike["band"].astype(np.int64) << 32)):
        differing = np.bitwise_count(alike["hash"][a] ^ alike["hash"][b])
        is_near = (differing <= MAX_BITS) & (alike["content"][a] != alike["content"][b])
        a, b = a[is_near], b[is_near]
        if sketches:
            is_copy = are_near_copies(*(alike["sketch"][of].astype(np.float32) for of in (a, b)))
            yield _pair_rows(alike[a[is_copy]], alike[b[is_copy]], near=True)
        looked_at[a] = looked_at[b] = True
    if not sketches and looked_at.any():
        ids = pa.array(np.unique(alike["id"][looked_at]))
        nulls = [pa.nulls(len(ids), field.type) for field in PAIR_SCHEMA][1:]
        yield pa.RecordBatch.from_arrays([ids, *nulls], schema=PAIR_SCHEMA)


def _blocks(images: pa.Table, bands: Sequence[int], *, sketches: bool, num_tasks: int) -> Iterator[pa.RecordBatch]:
    all_images = np.zeros(images.num_rows, _image_type(sketches=sketches))
    all_images["part"] = pc.index_in(images.column(SPLIT), pa.array(_PARTS)).to_numpy()
    all_images["class_id"] = images.column("class_id").fill_null(NO_CLASS).to_numpy()
    for name, column in (("id", ID), ("content", CONTENT), ("hash", HASH)):
        all_images[name] = images.column(column).fill_null(0).to_numpy()
    hashed = all_images[images.column(HASH).is_valid().to_numpy()]
    if sketches:
        of_hashed = b"".join(images.column(SKETCH).drop_null().to_pylist())
        hashed["sketch"] = np.frombuffer(of_hashed, np.float16).reshape(len(hashed), NUM_FREQUENCIES)
    for band in bands:
        if band == CONTENT_BAND:
            yield _block_rows(all_images, all_images["content"], band, num_tasks)
        else:
            yield _block_rows(hashed, _bits(hashed["hash"], band), band, num_tasks)


def _bits(hashes: np.ndarray, band: np.ndarray | int) -> np.ndarray:
    """(N,) int64, those of the band."""
    return (hashes >> (np.int64(BAND_BITS) * band)) & np.int64((1 << BAND_BITS) - 1)


def _block_rows(images: np.ndarray, keys: np.ndarray, band: int, num_tasks: int) -> pa.RecordBatch:
    """A block for each task, of the images with these keys."""
    mixed = (keys.astype(np.uint64) + np.uint64(band)) * np.uint64(0x9E3779B97F4A7C15)
    tasks = ((mixed >> np.uint64(33)) % np.uint64(num_tasks)).astype(np.int32)
    order = np.argsort(tasks, kind="stable")
    in_order = images[order]
    in_order["band"] = band
    bounds = np.searchsorted(tasks[order], np.arange(num_tasks + 1))
    filled = np.flatnonzero(np.diff(bounds))
    columns = [
        pa.array(filled.astype(np.int32)),
        pa.array([in_order[bounds[task] : bounds[task + 1]].tobytes() for task in filled], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["task", "block"])


def _pairs(images: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of images and of originals of the same group, pair by pair."""
    part = images["part"]
    unlabeled = np.flatnonzero(part == _UNLABELED)
    labelled = np.flatnonzero((part != _UNLABELED) & (part != _TEST))
    # One original for each content: a thousand equal ones, such as blank ones, are compared once.
    order = np.flatnonzero(part != _UNLABELED if len(unlabeled) else part == _TEST)
    order = order[np.lexsort((images["id"][order], images["content"][order], part[order], groups[order]))]
    in_order = np.stack([values[order] for values in (groups, part, images["content"])])
    originals = order[np.diff(in_order, axis=1, prepend=in_order[:, :1] - 1).any(axis=0)]
    yield from _pairs_of(groups, unlabeled, originals)
    yield from _pairs_of(groups, labelled, originals[part[originals] == _TEST])


def _pairs_of(groups: np.ndarray, first: np.ndarray, originals: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same, a part of the pairs at once.

    first, originals: indices of images; originals sorted by group
    """
    starts = np.searchsorted(groups[originals], groups[first], "left")
    sizes = np.searchsorted(groups[originals], groups[first], "right") - starts
    ends = np.cumsum(sizes)
    for pairs in np.split(np.arange(len(first)), np.flatnonzero(np.diff(ends // PAIRS_AT_ONCE)) + 1):
        of_first = np.repeat(pairs, sizes[pairs])
        before = np.cumsum(sizes[pairs]) - sizes[pairs]
        place = np.arange(len(of_first)) - np.repeat(before, sizes[pairs])
        if len(of_first):
            yield first[of_first], originals[starts[of_first] + place]


def _pair_rows(copies: np.ndarray, originals: np.ndarray, *, near: bool) -> pa.RecordBatch:
    columns = [
        pa.array(copies["id"]),
        pa.array(_PARTS[copies["part"]]),
        pa.array(copies["class_id"], mask=copies["class_id"] == NO_CLASS),
        pa.array(originals["part"].astype(np.int32)),
        pa.array(np.full(len(copies), near)),
        pa.array(originals["id"]),
        pa.array(originals["class_id"]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PAIR_SCHEMA)
