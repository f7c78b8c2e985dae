"""Cutting a long-tailed set out of a source (spark_jobs/frames/long_tail.py): exact sizes, and always the same images.

The source here has 30, 12 and 1 training images of three classes, and 3 test images of each.
"""

import functools
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from longtail.conf.vocabulary import NO_CLASS
from longtail.data.checksums import as_text, rows_checksum
from longtail.data.longtail import validation_counts
from longtail.spark_jobs.frames.long_tail import LongTail, collect_limits, keep_long_tail, with_bucket_counts
from longtail.spark_jobs.frames.pseudo_label_quality import with_label_quality
from tests.frames import frame_of, split_counts

TRAIN_SIZES = [30, 12, 1]
NUM_TEST_A_CLASS = 3
PREPARED = "id long, image binary, label int, hidden_label int, split string"
PSEUDO_LABELS = "id long, pseudo_label int"


def source_rows() -> list[tuple[int, bytearray, int, str]]:
    """Test images are 0 to 8; of the training images, classes come mixed."""
    labels = [label for label in range(3) for _ in range(NUM_TEST_A_CLASS)]
    rows = [(i, label, "test") for i, label in enumerate(labels)]
    train = sorted(range(sum(TRAIN_SIZES)), key=lambda i: (i * 17) % 43)
    labels = [label for label, size in enumerate(TRAIN_SIZES) for _ in range(size)]
    rows += [(len(rows) + place, labels[i], "train") for place, i in enumerate(train)]
    return [(i, bytearray([i, label, 255 - i]), label, split) for i, label, split in rows]


@pytest.fixture(scope="module")
def source(spark: SparkSession) -> DataFrame:
    return frame_of(spark, source_rows(), "id long, image binary, label int, split string").cache()


def cut(source: DataFrame, *, val: Sequence[int], train: Sequence[int], unlabeled: Sequence[int], seed: int = 0):
    """The rows of the long-tailed set by id; the same cut of the same source is made once."""
    return _cut(source, LongTail(val=tuple(val), train=tuple(train), unlabeled=tuple(unlabeled)), seed)


@functools.cache
def _cut(source: DataFrame, counts: LongTail, seed: int) -> list[Row]:
    (limits,) = collect_limits(source, [counts], bucket_counts(source, seed), seed=seed)
    rows = keep_long_tail(source, limits, seed=seed).collect()
    assert len({row.id for row in rows}) == len(rows), "an image lies in two parts"
    return sorted(rows)


@functools.cache
def bucket_counts(source: DataFrame, seed: int) -> list[Row]:
    return with_bucket_counts(source, seed=seed).collect()


def ids(rows: Sequence[Row], split: str) -> set[int]:
    return {row.id for row in rows if row.split == split}


def sizes(rows: Sequence[Row], split: str) -> list[int]:
    truth = Counter(row.label if row.hidden_label is None else row.hidden_label for row in rows if row.split == split)
    return [truth[label] for label in range(3)]


def test_class_counts_are_those_of_each_split(source: DataFrame) -> None:
    found: Counter[tuple[str, int]] = Counter()
    for split, label, _, count in with_bucket_counts(source, seed=3).collect():
        found[split, label] += count
    assert found == {("train", 0): 30, ("train", 1): 12, ("train", 2): 1, **{("test", i): 3 for i in range(3)}}


@pytest.mark.parametrize(
    ("val", "train", "unlabeled"),
    [
        ([5, 2, 0], [10, 3, 1], [8, 7, 0]),
        ([10, 4, 0], [10, 4, 1], [10, 4, 0]),  # everything
        ([0, 0, 0], [30, 12, 1], [0, 0, 0]),  # everything, labelled
        ([0, 0, 1], [1, 0, 0], [0, 12, 0]),
    ],
)
def test_every_part_has_exactly_the_asked_sizes_and_parts_never_overlap(
    source: DataFrame, val: list[int], train: list[int], unlabeled: list[int]
) -> None:
    rows = cut(source, val=val, train=train, unlabeled=unlabeled)

    assert [sizes(rows, split) for split in ("val", "train", "unlabeled", "test")] == [val, train, unlabeled, [3] * 3]
    parts = [ids(rows, split) for split in ("val", "train", "unlabeled", "test")]
    assert len(set.union(*parts)) == sum(len(part) for part in parts) == len(rows)


def test_the_images_of_a_class_are_those_of_the_lowest_hashes_whatever_their_buckets(source: DataFrame) -> None:
    parts = {"val": [5, 2, 0], "train": [10, 3, 1], "unlabeled": [8, 7, 0]}
    hashes = source.selectExpr("id", "label", "split", "xxhash64(id, 7) AS hash").collect()
    ranked = sorted((row.hash, row.id) for row in hashes if (row.split, row.label) == ("train", 0))
    in_order = [image_id for _, image_id in ranked]
    of_class = set(in_order)

    rows = cut(source, **parts, seed=7)

    for split, expected in (("val", in_order[:5]), ("train", in_order[5:15]), ("unlabeled", in_order[15:23])):
        assert ids(rows, split) & of_class == set(expected)
    assert len({hash_value >> 60 for hash_value, _ in ranked}) > 4, "the class lies in several buckets"


def test_neither_partitions_nor_row_order_change_the_choice(source: DataFrame) -> None:
    parts = {"val": [5, 2, 0], "train": [10, 3, 1], "unlabeled": [8, 7, 0]}
    shuffled = [
        source.coalesce(1).orderBy("id"),
        source.repartition(7).sortWithinPartitions("image"),
        source.orderBy(source.id.desc()),
    ]

    expected = cut(source, **parts)

    assert [cut(frame, **parts) == expected for frame in shuffled] == [True] * 3


def test_another_seed_chooses_other_images(source: DataFrame) -> None:
    parts = {"val": [5, 2, 0], "train": [10, 3, 1], "unlabeled": [8, 7, 0]}

    of_seed = [cut(source, **parts, seed=seed) for seed in (0, 1, 2)]

    assert len({frozenset(ids(rows, "train")) for rows in of_seed}) == 3
    assert [sizes(rows, "train") for rows in of_seed] == [[10, 3, 1]] * 3
    assert len({frozenset(ids(rows, "test")) for rows in of_seed}) == 1


def test_rare_classes_keep_their_only_image(source: DataFrame) -> None:
    labelled = [20, 6, 1]
    val = validation_counts(labelled, val_fraction=0.5)
    train = [total - held_out for total, held_out in zip(labelled, val, strict=True)]

    rows = cut(source, val=val, train=train, unlabeled=[0, 0, 0])

    only = [row[0] for row in source_rows() if row[2:] == (2, "train")]
    assert [row.id for row in rows if row.label == 2 and row.split != "test"] == only
    assert [row.split for row in rows if row.id == only[0]] == ["train"]


def test_unlabeled_rows_carry_no_label_but_the_true_one_hidden(source: DataFrame) -> None:
    truth = {row[0]: row[2] for row in source_rows()}

    rows = cut(source, val=[5, 2, 0], train=[10, 3, 1], unlabeled=[8, 7, 0])

    for row in rows:
        expected = (None, truth[row.id]) if row.split == "unlabeled" else (truth[row.id], None)
        assert (row.label, row.hidden_label) == expected


def test_images_are_carried_over_byte_for_byte(source: DataFrame) -> None:
    pixels = {row[0]: row[1] for row in source_rows()}

    rows = cut(source, val=[0, 0, 0], train=[30, 12, 1], unlabeled=[0, 0, 0])

    assert {row.id: row.image for row in rows} == pixels


def test_test_rows_are_left_untouched(source: DataFrame) -> None:
    test_rows = [row for row in source_rows() if row[3] == "test"]

    rows = cut(source, val=[5, 2, 0], train=[10, 3, 1], unlabeled=[8, 7, 0])

    assert [(row.id, row.image, row.label, row.split) for row in rows if row.split == "test"] == test_rows


def test_the_labelled_part_stays_when_an_unlabeled_part_is_added(source: DataFrame) -> None:
    without = cut(source, val=[5, 2, 0], train=[10, 3, 1], unlabeled=[0, 0, 0])
    small = cut(source, val=[5, 2, 0], train=[10, 3, 1], unlabeled=[4, 4, 0])
    large = cut(source, val=[5, 2, 0], train=[10, 3, 1], unlabeled=[15, 7, 0])

    for split in ("train", "val"):
        assert ids(without, split) == ids(small, split) == ids(large, split)
    assert ids(small, "unlabeled") < ids(large, "unlabeled")


def prepared(spark: SparkSession, rows: Sequence[tuple]) -> DataFrame:
    return frame_of(spark, rows, PREPARED)


FEW_ROWS = [
    (1, b"ab", 0, None, "train"),
    (2, b"cd", 0, None, "train"),
    (3, b"ef", 1, None, "train"),
    (4, b"gh", None, 1, "unlabeled"),
    (5, b"ij", None, 1, "unlabeled"),
    (6, b"kl", None, 0, "unlabeled"),
    (7, b"mn", 1, None, "test"),
]


def test_split_counts_are_by_the_withheld_label_in_the_unlabeled_part(spark: SparkSession) -> None:
    assert split_counts(prepared(spark, FEW_ROWS)) == {
        ("train", 0): 2, ("train", 1): 1, ("unlabeled", 0): 1, ("unlabeled", 1): 2, ("test", 1): 1,
    }  # fmt: skip


def checksums(rows: Sequence[tuple]) -> dict[str, int]:
    """By split, of rows in the form of FEW_ROWS."""
    columns = [("id", pa.int64()), ("image", pa.binary()), ("label", pa.int32()), ("hidden_label", pa.int32())]
    of_splits = {}
    for split in {row[4] for row in rows}:
        values = zip(*(row[:4] for row in rows if row[4] == split), strict=True)
        arrays = [pa.array(column, kind) for column, (_, kind) in zip(values, columns, strict=True)]
        of_splits[split] = rows_checksum(pa.table(arrays, names=[name for name, _ in columns]))
    return of_splits


def test_checksums_depend_neither_on_order_nor_on_batches() -> None:
    expected = checksums(FEW_ROWS)

    assert set(expected) == {"train", "unlabeled", "test"}
    assert checksums(FEW_ROWS[::-1]) == expected
    parts = [checksums([row]) for row in FEW_ROWS]
    for split, total in expected.items():
        assert as_text(sum(part.get(split, 0) for part in parts)) == as_text(total)


CHANGES = {
    "nothing": FEW_ROWS[0],
    "a bit": (2, b"ce", 0, None, "train"),
    "the order of pixels": (2, b"dc", 0, None, "train"),
    "a label": (2, b"cd", 1, None, "train"),
    "an id": (9, b"cd", 0, None, "train"),
    "a hidden label": (5, b"ij", None, 0, "unlabeled"),
    "a hidden label laid open": (5, b"ij", 1, None, "unlabeled"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checksum_changes_with_whatever_changes_in_its_split_alone(change: str) -> None:
    changed = CHANGES[change]
    place = {"train": 1, "unlabeled": 4}[changed[4]] if change != "nothing" else 0

    before, after = checksums(FEW_ROWS), checksums([*FEW_ROWS[:place], changed, *FEW_ROWS[place + 1 :]])

    differ = {split for split in ("train", "unlabeled", "test") if before[split] != after[split]}
    assert differ == (set() if change == "nothing" else {changed[4]})


def test_label_quality_counts_each_class_and_keeps_absent_ones(spark: SparkSession) -> None:
    """class_id, predicted, support, labelled, correct, judged, right_half.

    Truth of 4, 5, 6 is 1, 1, 0; class 2 is only predicted, class 3 neither predicted nor there. The head half is 0, 1.
    """
    labels = frame_of(spark, [(6, 1), (4, 1), (5, 2)], PSEUDO_LABELS)

    quality = with_label_quality(labels, prepared(spark, FEW_ROWS), class_counts=[9, 9, 3, 1]).collect()

    assert [tuple(row) for row in quality] == [
        (0, 0, 1, 1, 0, 0, 0),
        (1, 2, 2, 2, 1, 2, 2),
        (2, 1, 0, 0, 0, 1, 0),
        (3, 0, 0, 0, 0, 0, 0),
    ]


def test_label_quality_has_no_precision_by_images_whose_truth_is_unknown(spark: SparkSession) -> None:
    labels = frame_of(spark, [(6, 1), (8, 1)], PSEUDO_LABELS)
    rows = [*FEW_ROWS, (8, b"op", None, None, "unlabeled")]

    quality = with_label_quality(labels, prepared(spark, rows), class_counts=[2, 5]).collect()

    assert [(row.predicted, row.judged, row.correct) for row in quality] == [(0, 0, 0), (2, 1, 0)]


def test_an_image_of_no_class_is_of_no_half(spark: SparkSession) -> None:
    """Image 6 is of class 0."""
    labels = frame_of(spark, [(6, 0), (8, 0), (9, 1)], PSEUDO_LABELS)
    rows = [*FEW_ROWS, (8, b"op", None, NO_CLASS, "unlabeled"), (9, b"qr", None, NO_CLASS, "unlabeled")]

    quality = with_label_quality(labels, prepared(spark, rows), class_counts=[2, 5]).collect()

    assert [(row.judged, row.right_half) for row in quality] == [(2, 1), (1, 0)]


def test_label_quality_never_counts_an_image_outside_the_unlabeled_part(spark: SparkSession) -> None:
    labels = frame_of(spark, [(4, 1), (1, 0), (7, 1), (99, 1)], PSEUDO_LABELS)

    quality = with_label_quality(labels, prepared(spark, FEW_ROWS), class_counts=[2, 5]).collect()

    assert [tuple(row) for row in quality] == [(0, 0, 1, 0, 0, 0, 0), (1, 1, 2, 1, 1, 1, 1)]
