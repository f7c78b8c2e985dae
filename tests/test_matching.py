"""Copies found in arrays (data/matching.py), against a comparison of every image with every other."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from longtail.data.fingerprints import BAND_BITS, MAX_BITS, NUM_BANDS, NUM_FREQUENCIES, are_near_copies, sign_hashes
from longtail.data.matching import CONTENT_BAND, matched, spread

NUM_IMAGES = 300
COLUMNS = ["id", "split", "class_id", "content", "hash", "sketch"]


def images() -> list[tuple]:
    """Variants of 50 images, most of them as near as copies are, half of them with the content of another."""
    generator = np.random.default_rng(0)
    variants = generator.normal(0, 20, (50, NUM_FREQUENCIES))[generator.integers(0, 50, NUM_IMAGES)]
    variants += generator.normal(0, 0.4, variants.shape) * (generator.random((NUM_IMAGES, 1)) < 0.7)
    contents = np.where(generator.random(NUM_IMAGES) < 0.5, generator.integers(0, 40, NUM_IMAGES), 99)
    contents[contents == 99] += np.arange((contents == 99).sum())
    first = {content: index for index, content in reversed(list(enumerate(contents.tolist())))}
    variants = variants[[first[content] for content in contents.tolist()]].astype(np.float32)
    splits = np.array(["test", "val", "train", "unlabeled"])[generator.integers(0, 4, NUM_IMAGES)].tolist()
    classes = [None if split == "unlabeled" and i % 2 else i % 5 for i, split in enumerate(splits)]
    ids = generator.permutation(1000)[:NUM_IMAGES].tolist()
    hashes = [
        None if content % 10 == 3 else h for content, h in zip(contents, sign_hashes(variants).tolist(), strict=True)
    ]
    sketches = [None if h is None else v.tobytes() for h, v in zip(hashes, variants.astype(np.float16), strict=True)]
    return list(zip(ids, splits, classes, contents.tolist(), hashes, sketches, strict=True))


def best_of_all_pairs(rows: list[tuple], *, near: bool) -> dict[tuple, tuple]:
    found = {}
    for image_id, split, class_id, content, bits, sketch in rows:
        for other in rows:
            if split == "test" or other[1] == "unlabeled" or (split != "unlabeled" and other[1] != "test"):
                continue
            is_near = near and None not in (bits, other[4]) and agree_in_a_band(bits, other[4])
            if content != other[3] and not (is_near and (bits ^ other[4]).bit_count() <= MAX_BITS):
                continue
            if content != other[3] and not are_near_copies(frequencies(sketch), frequencies(other[5]))[0]:
                continue
            place = ["test", "val", "train"].index(other[1])
            pair, key = (place, content != other[3], other[0], other[2]), (image_id, split, class_id)
            found[key] = min(found.get(key, pair), pair)
    return found


def agree_in_a_band(first: int, second: int) -> bool:
    differing = (first ^ second) & (2**64 - 1)
    return any(not (differing >> band * BAND_BITS) % 2**BAND_BITS for band in range(NUM_BANDS))


def frequencies(sketch: bytes) -> np.ndarray:
    return np.frombuffer(sketch, np.float16).astype(np.float32)[None]


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("num_tasks", [1, 5])
def test_what_is_found_is_the_best_of_all_pairs(near: bool, num_tasks: int) -> None:
    rows = images()
    types = [pa.int64(), pa.string(), pa.int32(), pa.int64(), pa.int64(), pa.binary()]
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, names=COLUMNS)
    bands = (CONTENT_BAND, *(range(NUM_BANDS) if near else ()))

    pairs = pairs_of(batch, bands, sketches=False, num_tasks=num_tasks)
    candidates = {pair["id"] for pair in pairs if pair["of_id"] is None}
    assert len(candidates) < NUM_IMAGES
    pairs = [pair for pair in pairs if pair["of_id"] is not None]
    compared = batch.filter(pc.is_in(batch.column("id"), pa.array([*candidates], pa.int64())))
    pairs += pairs_of(compared, range(NUM_BANDS), sketches=True, num_tasks=num_tasks)

    found: dict[tuple, tuple] = {}
    for pair in pairs:
        key, of = (pair["id"], pair["split"], pair["class_id"]), (pair["place"], pair["is_near"])
        of = (*of, pair["of_id"], pair["of_class"])
        found[key] = min(found.get(key, of), of)
    expected = best_of_all_pairs(rows, near=near)
    assert found == expected
    assert {is_near for _, is_near, _, _ in expected.values()} == ({True, False} if near else {False})


def pairs_of(batch: pa.RecordBatch, bands: Sequence[int], *, sketches: bool, num_tasks: int) -> list[dict]:
    """What all tasks find in two blocks of the images."""
    blocks: dict[int, list[bytes]] = {task: [] for task in range(num_tasks)}
    halves = iter([batch.slice(0, 100), batch.slice(100)])
    for part in spread(halves, bands=bands, sketches=sketches, num_tasks=num_tasks):
        for row in part.to_pylist():
            blocks[row["task"]].append(row["block"])
    found = []
    for of_task in blocks.values():
        columns = [pa.nulls(len(of_task), pa.int32()), pa.array(of_task, pa.binary())]
        given = iter([pa.RecordBatch.from_arrays(columns, names=["task", "block"])])
        found += [pair for batch in matched(given, sketches=sketches) for pair in batch.to_pylist()]
    return found
