"""Copies of test and labelled images in the unlabeled part (spark_jobs/steps/copies.py): found, left out, reported."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.fingerprints import MAX_BITS, are_near_copies, low_frequencies, sign_hashes
from longtail.data.manifest import Manifest, read_manifest
from longtail.spark_jobs.frames.copies import with_copies, with_copy_counts, with_label_conflicts, with_matches
from longtail.spark_jobs.steps.checkpoint_options import Continued
from longtail.spark_jobs.steps.prepare import prepare
from tests.frames import frame_of


def picture(number: int, side: int = 64) -> Image.Image:
    """A picture of its own for each number: smooth patches of random colours, as photographs have."""
    colours = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC)


def pixels_of(pictures: list[Image.Image], side: int = 32) -> np.ndarray:
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in pictures])


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


def resized(image: Image.Image, factor: float) -> Image.Image:
    side = int(image.width * factor)
    return image.resize((side, side), Image.Resampling.BICUBIC)


PICTURES = [picture(number) for number in range(40)]


@pytest.mark.parametrize(
    "changed",
    [
        [as_jpeg(image, 50) for image in PICTURES],
        [as_jpeg(image, 95) for image in PICTURES],
        [resized(image, 0.5) for image in PICTURES],
        [resized(image, 2) for image in PICTURES],
        [as_jpeg(resized(image, 0.5), 75) for image in PICTURES],
    ],
    ids=["jpeg-50", "jpeg-95", "half", "double", "half-jpeg-75"],
)
def test_a_picture_encoded_again_or_resized_is_a_near_copy(changed: list[Image.Image]) -> None:
    originals, copies = (low_frequencies(pixels_of(pictures)) for pictures in (PICTURES, changed))

    assert are_near_copies(originals, copies).all()
    differing = sign_hashes(originals) ^ sign_hashes(copies)
    assert max(int(bits).bit_count() for bits in differing) <= MAX_BITS


def test_other_pictures_are_no_near_copies() -> None:
    found = low_frequencies(pixels_of(PICTURES))
    first, second = np.triu_indices(len(found), 1)

    assert not are_near_copies(found[first], found[second]).any()


def test_low_frequencies_by_hand() -> None:
    """A cosine of amplitude 50 across the width has a variance of 1250, all of it in the first frequency."""
    wave = 100 + 50 * np.cos(np.pi * (2 * np.arange(32) + 1) / 64)
    image = np.broadcast_to(wave, (32, 32)).round().astype(np.uint8)[None, ..., None]

    found = low_frequencies(image)

    assert found.shape == (1, 63)
    assert found[0, 0] == pytest.approx(1250**0.5, rel=1e-2)
    assert np.abs(found[0, 1:]).max() < 0.2


PARTS_DDL = "id long, label int, hidden_label int, split string, content long, hash long, sketch binary"


def test_an_image_is_listed_once_and_as_the_copy_of_a_test_image_if_it_is_that(spark: SparkSession) -> None:
    rows = [
        (1, 0, None, "train", 11, None, None),
        (2, 1, None, "test", 11, None, None),
        (3, None, 1, "unlabeled", 11, None, None),
        (4, None, None, "unlabeled", 12, None, None),
        (5, 0, None, "val", 12, None, None),
        (6, 0, None, "train", 13, None, None),
        (7, None, 0, "unlabeled", 14, None, None),
        (8, None, 0, "unlabeled", 12, None, None),
        (9, None, 0, "unlabeled", 13, None, None),
    ]
    parts = frame_of(spark, rows, PARTS_DDL)
    matches = with_matches(parts, near=False, num_tasks=2)
    copies = with_copies(parts, matches, near=False, num_tasks=2).persist()

    assert sorted(map(tuple, copies.collect())) == [
        (1, "train", 0, "test", 2, 1, "exact"),
        (3, "unlabeled", 1, "test", 2, 1, "exact"),
        (4, "unlabeled", None, "val", 5, 0, "exact"),
        (8, "unlabeled", 0, "val", 5, 0, "exact"),
        (9, "unlabeled", 0, "labelled", 6, 0, "exact"),
    ]
    assert [tuple(row) for row in with_copy_counts(copies).collect()] == [
        ("train", "test", "exact", 1, 1, [(1, 2)]),
        ("unlabeled", "labelled", "exact", 1, 0, [(9, 6)]),
        ("unlabeled", "test", "exact", 1, 0, [(3, 2)]),
        ("unlabeled", "val", "exact", 2, 0, [(4, 5), (8, 5)]),
    ]
    assert [tuple(map(tuple, row)) for row in with_label_conflicts(parts).collect()] == [((0, 1), (1, 2))]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labelled/: two classes of six training and three test pictures, the last of each with the content of others.

    more/: 3 new pictures; a test image; a test image as JPEG; a training image at half its size, and a copy of one.
    """
    root = tmp_path_factory.mktemp("images")
    for number in range(18):
        split, name = ("test", f"{number}.png") if number % 9 >= 6 else ("train", f"{number}.png")
        file = root / "labelled" / split / "ab"[number // 9] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    shutil.copy(root / "labelled/train/a/5.png", root / "labelled/train/b/also_5.png")
    as_jpeg(picture(7), 80).save(root / "labelled/train/b/like_7.png")
    (root / "more" / "deep").mkdir(parents=True)
    for number in range(100, 103):
        picture(number).save(root / "more" / f"{number}.png")
    shutil.copy(root / "labelled/test/a/6.png", root / "more" / "deep" / "six.png")
    picture(15).save(root / "more" / "fifteen.jpg", quality=70)
    resized(picture(0), 0.5).save(root / "more" / "zero.png")
    shutil.copy(root / "labelled/train/a/1.png", root / "more" / "one.png")
    return root


def prepared(spark: SparkSession, images: Path, data_dir: Path, **values: object) -> Manifest:
    options = {"dataset": "folder", "path": images / "labelled", "unlabeled": str(images / "more"), "image_size": 32}
    return read_manifest(prepare(spark, resolve_options(PrepareOptions, {**options, "data_dir": data_dir, **values})))


def test_copies_of_test_and_labelled_images_are_left_out_and_said_every_time(
    spark: SparkSession, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = prepared(spark, images, tmp_path)

    assert (manifest.num_images("unlabeled"), manifest.num_images("train"), manifest.num_images("test")) == (3, 14, 6)
    said = capsys.readouterr().out
    unlabeled = [
        "left out of the unlabeled part: 1 exact copies of labelled images, such as one.png of train/a/1.png",
        "left out of the unlabeled part: 1 near copies of labelled images, such as zero.png of train/a/0.png",
        "left out of the unlabeled part: 1 exact copies of test images, such as deep/six.png of test/a/6.png",
        "left out of the unlabeled part: 1 near copies of test images, such as fifteen.jpg of test/b/15.png",
    ]
    labelled = [
        "the part train has 1 near copies of test images, such as train/b/like_7.png of test/a/7.png "
        "(1 of another class)",
        "1 images have more than one class, such as train/a/5.png (a) and train/b/also_5.png (b)",
    ]
    assert all(line in said for line in [*unlabeled, *labelled])
    assert [row["left_out"] for row in manifest.copies] == [False, True, True, True, True]

    options = {"dataset": "folder", "path": images / "labelled", "unlabeled": str(images / "more"), "image_size": 32}
    known = resolve_options(PrepareOptions, {**options, "data_dir": tmp_path})
    set_dir = prepare(spark, known)
    assert capsys.readouterr().out.splitlines() == unlabeled
    assert Continued(known, set_dir).prepared(spark) == set_dir
    assert capsys.readouterr().out.splitlines() == unlabeled, "a set that a checkpoint leads to"


@pytest.mark.long
def test_copies_of_labelled_images_stay_if_asked_but_those_of_held_out_images_never(
    spark: SparkSession, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = tmp_path / "val"
    for name, number in (("a", 30), ("b", 31)):
        (val / name).mkdir(parents=True)
        picture(number).save(val / name / f"{number}.png")
    more = shutil.copytree(images / "more", tmp_path / "more")
    shutil.copy(val / "a" / "30.png", more / "thirty.png")
    manifest = prepared(spark, images, tmp_path / "data", keep_labelled_copies=True, val_path=val, unlabeled=str(more))

    assert manifest.num_images("unlabeled") == 5
    said = capsys.readouterr().out
    assert "kept in the unlabeled part: 1 exact copies of labelled images" in said
    assert "left out of the unlabeled part: 1 exact copies of validation images, such as thirty.png of a/30.png" in said
    assert "left out of the unlabeled part: 1 exact copies of test images" in said


def test_a_directory_of_nothing_but_copies_is_refused(spark: SparkSession, images: Path, tmp_path: Path) -> None:
    test = images / "labelled" / "test"
    with pytest.raises(UserError, match="has no other images: 6 images were left out .* name other images"):
        prepared(spark, images, tmp_path / "data", unlabeled=str(test))
    assert not list((tmp_path / "data").rglob("*.parquet"))
