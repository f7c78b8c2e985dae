"""Preparing sets of the user's own images and of further unlabeled sources (spark_jobs/steps/prepare.py)."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, IMAGE, IRRELEVANT_FIRST_ID, LABEL, SPLIT
from longtail.data.loader import load_hidden_labels, load_split
from longtail.data.longtail import labelled_counts, unlabeled_counts
from longtail.data.manifest import read_manifest
from longtail.data.sources.base import Located, Shard, source_batch
from longtail.data.sources.registry import SOURCES
from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.frames.long_tail import LongTail, collect_limits, keep_long_tail, with_bucket_counts
from longtail.spark_jobs.steps.prepare import prepare
from tests.frames import split_counts
from tests.image_tree import colour_of, write_class
from tests.refusals import refused


def options_of(data_dir: Path, **values: object) -> PrepareOptions:
    return resolve_options(PrepareOptions, {"data_dir": data_dir, **values})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Twelve images of class a and eight of class b, each of a colour of its own; one of class a is no image."""
    write_class(tmp_path / "tree" / "a", 12)
    write_class(tmp_path / "tree" / "b", 8, first_colour=100)
    (tmp_path / "tree" / "a" / "000.png").write_bytes(b"<html>no such page</html>")
    return tmp_path / "tree"


def test_a_folder_becomes_a_set_of_files_that_the_loader_decodes(
    spark: SparkSession, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bad image is one of the twelve of class a, of which two are the test set."""
    (tree / "b" / "photo.heic").write_bytes(b"of a kind that is not read")
    options = options_of(tmp_path, dataset="folder", path=tree, image_size=8, on_bad_image="skip")
    set_dir = prepare(spark, options)
    manifest = read_manifest(set_dir)

    assert capsys.readouterr().out.splitlines() == [
        "images: class folders of tree: 2 classes, 20 images; test set: 0.2 of each class",
        f"left out 1 images that are missing or cannot be decoded: {set_dir}/skipped_images.csv",
        f"not read: 1 images of other kinds ({tree}/b/photo.heic): convert them to JPEG or PNG",
    ]
    with (set_dir / "skipped_images.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    kinds = "JPEG, PNG, WEBP, GIF, BMP or TIFF file"
    assert header == ["image", "reason"] and rows == [
        [f"{tree}/a/000.png", f"it is not a {kinds}"],
        [f"{tree}/b/photo.heic", f"it is not a {kinds}"],
    ]
    assert (manifest.encoding, manifest.image_shape, manifest.num_bad_images) == ("encoded", (8, 8, 3), 1)
    assert sum(sum(counts) for counts in manifest.counts.values()) == 19
    stored = {}
    for file in (set_dir / "rows").rglob("*.parquet"):
        stored |= {row[ID]: row[IMAGE] for row in pq.read_table(file, partitioning=None).to_pylist()}
    assert set(stored.values()) == {file.read_bytes() for file in tree.rglob("*.png") if file.name != "000.png"} | {
        (tree / "b" / "000.png").read_bytes()
    }
    train = load_split(set_dir, TRAIN, manifest)
    assert train.images.shape == (sum(manifest.counts[TRAIN]), 8, 8, 3)
    of_class_b = train.images[train.labels == 1]
    colours = {colour_of(100 + i) for i in range(8)}
    assert all((image == image[0, 0]).all() and tuple(image[0, 0].tolist()) in colours for image in of_class_b)


def test_a_validation_set_of_the_user_s_own_is_taken_whole(spark: SparkSession, tmp_path: Path) -> None:
    for split, size in (("train", 6), ("val", 3), ("test", 2)):
        for place, name in enumerate(("a", "b")):
            write_class(tmp_path / "tree" / split / name, size + place, first_colour=100 * size + 10 * place)
    options = options_of(tmp_path, dataset="folder", path=tmp_path / "tree", image_size=8, val_fraction=0.5)
    set_dir = prepare(spark, options)
    manifest = read_manifest(set_dir)
    assert manifest.counts == {TRAIN: [6, 7], VAL: [3, 4], UNLABELED: [0, 0], TEST: [2, 3]}
    assert manifest.source.startswith("class folders of tree: train/ 2 classes, 13 images; val/ taken as validation")
    val = load_split(set_dir, VAL, manifest)
    assert {tuple(image[0, 0].tolist()) for image in val.images} == {
        colour_of(300 + number) for number in (0, 1, 2, 10, 11, 12, 13)
    }


def test_a_bad_image_of_a_folder_stops_in_one_line_and_leaves_nothing(
    spark: SparkSession, tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="UserError") as error:
        prepare(spark, options_of(tmp_path / "data", dataset="folder", path=tree))
    message = user_message(error.value)
    assert message is not None and f"{tree}/a/000.png cannot be decoded" in message
    assert list((tmp_path / "data").rglob("*")) == []


def test_a_class_of_which_every_image_is_left_out_is_refused_by_its_name(
    spark: SparkSession, tree: Path, tmp_path: Path
) -> None:
    for file in (tree / "b").iterdir():
        file.write_bytes(b"no image")
    with refused() as messages:
        prepare(spark, options_of(tmp_path / "data", dataset="folder", path=tree, image_size=8, on_bad_image="skip"))
    assert "has no training image of the class 'b' left, as damaged ones are skipped" in messages[0]
    assert list((tmp_path / "data").rglob("*")) == []


def test_a_folder_s_images_can_be_cut_to_a_longer_tail(spark: SparkSession, tree: Path, tmp_path: Path) -> None:
    values = {"dataset": "folder", "path": tree, "on_bad_image": "skip", "counts": "7,3"}
    assert read_manifest(prepare(spark, options_of(tmp_path, **values))).counts["train"] == [7, 3]


@pytest.mark.parametrize(
    ("counts", "refusal"),
    [
        ("7,3,1", "--counts has 3 numbers, digits has 10 classes"),
        ("9,9,9,9,9,9,9,9,9,0", "--counts leaves class 9 without an image: every class needs one"),
        ("9,9,9,9,9,9,9,9,999,9", "124 training images of class 8, 999 labelled ones are required: lower --counts"),
    ],
)  # fmt: skip
def test_counts_that_cannot_be_had_are_refused(spark: SparkSession, tmp_path: Path, counts: str, refusal: str) -> None:
    with pytest.raises(UserError) as error:
        prepare(spark, options_of(tmp_path, counts=counts))
    assert refusal in str(error.value)
    assert list(tmp_path.iterdir()) == []


class OtherDigits:
    """A data set of images of the digits' shape: forty training ones, all of one grey, and one test image."""

    @staticmethod
    def locate(options: PrepareOptions) -> Located:
        shards = [Shard(options.data_dir, TRAIN, 0, 0), Shard(options.data_dir, TEST, 0, 40)]
        return Located(shards=shards, origin="made up", class_names=["a", "b"], image_shape=(8, 8, 1))

    @staticmethod
    def read(shard: Shard):
        num_images = 40 if shard.split == TRAIN else 1
        return source_batch(shard, np.full((num_images, 8, 8, 1), 77, np.uint8), np.zeros(num_images))


@pytest.mark.long
def test_irrelevant_images_fill_their_share_of_the_unlabeled_part(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """131 labelled images; K = 0.6 is int(78.6) = 78, of which 0.75 are relevant: int(58.95) = 58, so 5 of each digit.

    A third as many are of no class: 50 / 0.75 * 0.25 = 16.67.
    """
    monkeypatch.setitem(SOURCES, "mnist", OtherDigits)
    values = {"imb_factor_unlabel": 1.0, "unlabel_size_factor": 0.6, "relevance": 0.75, "irrelevant_dataset": "mnist"}
    set_dir = prepare(spark, options_of(tmp_path, **values))
    manifest = read_manifest(set_dir)
    assert (manifest.counts[UNLABELED], manifest.num_classless) == ([5] * 10, 17)
    assert manifest.source == "scikit-learn load_digits; made up"
    unlabeled = load_split(set_dir, UNLABELED, manifest)
    irrelevant = unlabeled.ids >= IRRELEVANT_FIRST_ID
    assert irrelevant.sum() == 17 and (unlabeled.images[irrelevant] == 77).all()
    ids, hidden = load_hidden_labels(set_dir)
    assert (hidden[ids >= IRRELEVANT_FIRST_ID] == -1).all() and (hidden[ids < IRRELEVANT_FIRST_ID] >= 0).all()

    with pytest.raises(UserError, match="mnist has 40 images, --relevance 0.1 asks for"):
        prepare(spark, options_of(tmp_path, **{**values, "unlabel_size_factor": 4.0, "relevance": 0.1}))


def test_irrelevant_images_of_another_shape_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    values = {"imb_factor_unlabel": 1.0, "relevance": 0.5, "irrelevant_dataset": "folder"}
    with pytest.raises(UserError, match="must be one of the published data sets"):
        options_of(tmp_path, **values)
    with pytest.raises(UserError, match=r"cifar10 has raw images of \(32, 32, 3\), digits raw images of \(8, 8, 1\)"):
        (tmp_path / "cifar-10-batches-py").mkdir()
        prepare(spark, options_of(tmp_path, **{**values, "irrelevant_dataset": "cifar10"}))


@pytest.mark.parametrize(
    ("rho", "num_labelled", "unlabeled"),
    [
        (100, 12_406, 62_030),
        pytest.param(50, 13_996, 69_980, marks=pytest.mark.long),
        pytest.param(10, 20_431, 102_150, marks=pytest.mark.long),
    ],
)
def test_a_table_with_room_for_it_gives_the_published_sizes(
    spark: SparkSession, rho: int, num_labelled: int, unlabeled: int
) -> None:
    """CIFAR-10's 5,000 a class have no room for five times as many; labels alone, 50,000 of each class, have."""
    labelled = labelled_counts(10, imb_type="exp", imb_factor=1 / rho, n_max=5000)
    wanted = unlabeled_counts(labelled, imb_factor_unlabel=1 / rho, unlabel_size_factor=5.0)
    rows = spark.range(500_000).select(
        F.col("id"),
        F.lit(b"").alias(IMAGE),
        (F.col("id") % 10).cast("int").alias(LABEL),
        F.lit(TRAIN).alias(SPLIT),
    )
    long_tail = LongTail(val=[0] * 10, train=labelled, unlabeled=wanted)
    (limits,) = collect_limits(rows, [long_tail], with_bucket_counts(rows, seed=0).collect(), seed=0)
    counts = split_counts(keep_long_tail(rows, limits, seed=0))
    assert [counts[TRAIN, label] for label in range(10)] == labelled and sum(labelled) == num_labelled
    assert [counts[UNLABELED, label] for label in range(10)] == wanted
    # Each class is rounded down, so up to ten images are missing.
    assert 5 * num_labelled - 10 <= sum(wanted) <= 5 * num_labelled and abs(unlabeled - 5 * num_labelled) <= 5
