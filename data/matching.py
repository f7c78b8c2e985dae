"""Matches images with the originals that they may be copies of, by their fingerprints, in arrays.

Unlabeled images are compared with all others, labelled ones with test images. Candidates have the same content, or
agree in a whole band of the hash. Each image is sent to the task of its content and to those of its bands, so that no
task needs all images.
"""

from collections.abc import Iterator

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
"""An image and one that it is a copy of."""

IMAGES_AT_ONCE = 100_000
PAIRS_AT_ONCE = 1_000_000
_PARTS = np.array([TEST, VAL, TRAIN, UNLABELED])
"""In the order of ORIGINALS, unlabeled images last."""
_TEST, _UNLABELED = 0, 3
_CONTENT_BAND = NUM_BANDS


def _image_type(*, near: bool) -> np.dtype:
    """Of an image in a block. band: 0 to NUM_BANDS - 1, or _CONTENT_BAND; key: its bits, or the content."""
    fields = [
        ("band", np.int8), ("part", np.int8), ("class_id", np.int32), ("key", np.int64),
        ("id", np.int64), ("content", np.int64), ("hash", np.int64), ("sketch", np.float16, (NUM_FREQUENCIES,)),
    ]  # fmt: skip
    return np.dtype(fields if near else fields[:-1])


def spread(batches: Iterator[pa.RecordBatch], *, near: bool, num_tasks: int) -> Iterator[pa.RecordBatch]:
    """Blocks of images for the tasks that compare them: task, block.

    batches: ID, SPLIT, class_id, CONTENT, HASH and SKETCH
    """
    held: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        held.append(batch)
        num_rows += batch.num_rows
        if num_rows >= IMAGES_AT_ONCE:
            yield from _blocks(pa.Table.from_batches(held), near=near, num_tasks=num_tasks)
            held, num_rows = [], 0
    if num_rows:
        yield from _blocks(pa.Table.from_batches(held), near=near, num_tasks=num_tasks)


def matched(batches: Iterator[pa.RecordBatch], *, near: bool) -> Iterator[pa.RecordBatch]:
    """The copies (PAIR_SCHEMA) among the images of one task's blocks; a pair may occur several times."""
    contents = [np.frombuffer(block.as_buffer(), np.uint8) for batch in batches for block in batch.column(1)]
    if not contents:
        return
    images = np.concatenate(contents).view(_image_type(near=near))
    by_content = images["band"] == _CONTENT_BAND
    for of_content in (True, False) if near else (True,):
        candidates = images[by_content == of_content]
        groups = candidates["key"] if of_content else candidates["key"] + (candidates["band"].astype(np.int64) << 32)
        part = candidates["part"]
        # One original for each content: a thousand equal ones, such as blank ones, are compared once.
        order = np.lexsort((candidates["id"], candidates["content"], part, groups))
        order = order[part[order] != _UNLABELED]
        in_order = np.stack([values[order] for values in (groups, part, candidates["content"])])
        is_first = np.diff(in_order, axis=1, prepend=in_order[:, :1] - 1).any(axis=0)
        originals = order[is_first]
        tests = originals[part[originals] == _TEST]
        unlabeled = np.flatnonzero(part == _UNLABELED)
        labelled = np.flatnonzero((part != _UNLABELED) & (part != _TEST))
        for images_of, of in ((unlabeled, originals), (labelled, tests)):
            yield from _copies(candidates, groups, images_of, of, exact=of_content)


def _blocks(images: pa.Table, *, near: bool, num_tasks: int) -> Iterator[pa.RecordBatch]:
    splits = pc.index_in(images.column(SPLIT), pa.array(_PARTS)).to_numpy()
    all_images = np.zeros(images.num_rows, _image_type(near=near))
    all_images["part"] = splits
    all_images["class_id"] = images.column("class_id").fill_null(NO_CLASS).to_numpy()
    for name, column in (("id", ID), ("content", CONTENT), ("hash", HASH)):
        all_images[name] = images.column(column).fill_null(0).to_numpy()
    yield _block_rows(all_images, all_images["content"], _CONTENT_BAND, num_tasks)
    if not near:
        return
    hashed = all_images[images.column(HASH).is_valid().to_numpy()]
    sketches = b"".join(images.column(SKETCH).drop_null().to_pylist())
    hashed["sketch"] = np.frombuffer(sketches, np.float16).reshape(len(hashed), NUM_FREQUENCIES)
    for band in range(NUM_BANDS):
        bits = (hashed["hash"].view(np.uint64) >> np.uint64(band * BAND_BITS)) & np.uint64((1 << BAND_BITS) - 1)
        yield _block_rows(hashed, bits.astype(np.int64), band, num_tasks)


def _block_rows(images: np.ndarray, keys: np.ndarray, band: int, num_tasks: int) -> pa.RecordBatch:
    """A block for each task, of the images with these keys."""
    mixed = (keys.astype(np.uint64) + np.uint64(band)) * np.uint64(0x9E3779B97F4A7C15)
    tasks = ((mixed >> np.uint64(33)) % np.uint64(num_tasks)).astype(np.int64)
    order = np.argsort(tasks, kind="stable")
    in_order = images[order]
    in_order["band"], in_order["key"] = band, keys[order]
    blocks = np.split(in_order, np.searchsorted(tasks[order], np.arange(1, num_tasks)))
    columns = [pa.array(np.arange(num_tasks, dtype=np.int32)), pa.array([block.tobytes() for block in blocks])]
    return pa.RecordBatch.from_arrays(columns, names=["task", "block"]).filter(
        pa.array([len(block) > 0 for block in blocks])
    )


def _copies(
    images: np.ndarray, groups: np.ndarray, first: np.ndarray, originals: np.ndarray, *, exact: bool
) -> Iterator[pa.RecordBatch]:
    """The copies among the pairs of the same group.

    first, originals: indices of images; originals sorted by group
    exact: all images of a group have the same content; otherwise those that do not are compared
    """
    starts = np.searchsorted(groups[originals], groups[first], "left")
    sizes = np.searchsorted(groups[originals], groups[first], "right") - starts
    ends = np.cumsum(sizes)
    for pairs in np.split(np.arange(len(first)), np.flatnonzero(np.diff(ends // PAIRS_AT_ONCE)) + 1):
        of_first = np.repeat(pairs, sizes[pairs])
        before = np.cumsum(sizes[pairs]) - sizes[pairs]
        place = np.arange(len(of_first)) - np.repeat(before, sizes[pairs])
        a, b = first[of_first], originals[starts[of_first] + place]
        if not exact:
            differing = np.bitwise_count(images["hash"][a] ^ images["hash"][b])
            is_near = (differing <= MAX_BITS) & (images["content"][a] != images["content"][b])
            a, b = a[is_near], b[is_near]
            sketches = images["sketch"]
            is_copy = are_near_copies(sketches[a].astype(np.float32), sketches[b].astype(np.float32))
            a, b = a[is_copy], b[is_copy]
        if len(a):
            yield _pair_rows(images[a], images[b], near=not exact)


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
