"""The user's own images: class folders, lists, what is refused by name, and decoding."""

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED
from longtail.data.contract import (
    ENCODED,
    ID,
    IMAGE,
    LABEL,
    RAW,
    SKIPPED,
    SOURCE_SCHEMA,
    SPLIT,
    UNLABELED_FIRST_ID,
    read_skipped_image,
)
from longtail.data.directories import files_below
from longtail.data.image_files import decode, decode_files
from longtail.data.sources import folder, image_list
from longtail.data.sources.base import Located, with_check
from longtail.data.sources.unlabeled import DirectoryOfImages, RestOfImages, unlabeled_source
from tests.image_tree import colour_of, write_class, write_image
from tests.refusals import refused
from tests.sources import in_directory


def of_folder(path: Path, **values: object) -> DataOptions:
    return in_directory(path.parent / "data", dataset="folder", path=path, **values)


def of_list(path: Path, text: str, *, test: str | None = None, **values: object) -> DataOptions:
    files = {"list_file": path / "train.txt", "test_list_file": path / "test.txt"}
    for (name, file), content in zip(list(files.items()), (text, test), strict=True):
        if content is None:
            del files[name]
        else:
            file.write_text(content)
    return in_directory(path, dataset="image_list", path=path, **files, **values)


def rows_of(located: Located, read: object = folder.read) -> pa.Table:
    return pa.Table.from_batches([read(shard) for shard in located.shards]).sort_by(ID)


def test_class_folders_are_numbered_by_name_and_files_stay_as_they_are(tmp_path: Path) -> None:
    files = write_class(tmp_path / "zebra", 3, suffix=".jpg") + write_class(tmp_path / "ant" / "deep", 2)
    (tmp_path / "ant" / "readme.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    located = folder.locate(of_folder(tmp_path, test_fraction=0.4))
    assert located.class_names == ["ant", "zebra"]
    assert (located.encoding, located.image_shape) == (ENCODED, (32, 32, 3))
    assert located.origin.startswith(f"class folders of {tmp_path.name}: 2 classes, 5 images; not used: 1 files in")
    rows = rows_of(located)
    assert rows.schema == SOURCE_SCHEMA
    assert rows.column(ID).to_pylist() == [0, 1, 2, 3, 4]
    assert sorted(rows.column(IMAGE).to_pylist()) == sorted(file.read_bytes() for file in files)
    by_label = {label: set() for label in (0, 1)}
    for label, image in zip(rows.column(LABEL).to_pylist(), rows.column(IMAGE).to_pylist(), strict=True):
        by_label[label].add(image)
    assert by_label[1] == {file.read_bytes() for file in files[:3]}


def test_without_a_test_folder_a_share_of_each_class_is_the_test_set(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 5), ("c", 1)):
        write_class(tmp_path / name, size)
    rows = rows_of(folder.locate(of_folder(tmp_path, test_fraction=0.2)))
    sizes = {
        split: [
            sum(row[SPLIT] == split and row[LABEL] == wanted for row in rows.to_pylist())
            for wanted in range(3)
        ]
        for split in (TRAIN, TEST)
    }  # fmt: skip
    assert sizes == {TRAIN: [8, 4, 1], TEST: [2, 1, 0]}  # a class of one image keeps it for training


def test_the_test_share_is_the_same_again_and_another_with_another_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, 40)

    def test_names(seed: int) -> set[str]:
        located = folder.locate(of_folder(tmp_path, rand_number=seed))
        return {name for shard in located.shards if shard.split == TEST for name in shard.names}

    assert test_names(0) == test_names(0) != test_names(1)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, size in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            write_class(tmp_path / split / name, size)
    located = folder.locate(of_folder(tmp_path))
    assert located.class_names == ["a", "b"]
    assert [(shard.split, shard.names[0], len(shard.names)) for shard in located.shards] == [
        (TRAIN, "train/a/000.png", 6),
        (TEST, "test/a/000.png", 4),
    ]


def write_tiny_imagenet(path: Path, annotations: str) -> None:
    for name in ("n01", "n02"):
        write_class(path / "train" / name / "images", 2, suffix=".JPEG")
    write_class(path / "val" / "images", 2, suffix=".JPEG")
    write_class(path / "test" / "images", 1, suffix=".JPEG")
    (path / "val" / "val_annotations.txt").write_text(annotations)


def test_tiny_imagenet_s_validation_images_are_the_test_set(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path, "000.JPEG\tn02\t0\t0\t9\t9\n001.JPEG\tn01\t0\t0\t9\t9\n")
    located = folder.locate(of_folder(tmp_path))
    assert located.class_names == ["n01", "n02"]
    assert [(shard.split, shard.names, shard.labels) for shard in located.shards] == [
        (
            TRAIN,
            tuple(f"train/{name}/images/00{i}.JPEG" for name in ("n01", "n02") for i in (0, 1)),
            (0, 0, 1, 1),
        ),
        (TEST, ("val/images/000.JPEG", "val/images/001.JPEG"), (1, 0)),
    ]
    assert rows_of(located).num_rows == 6


@pytest.mark.parametrize(
    ("annotations", "named"),
    [
        ("000.JPEG\tn02\n001.JPEG\tn03\n", "val_annotations.txt:2 is"),
        ("000.JPEG n02\n", "val_annotations.txt:1 is"),
        ("../../000.JPEG\tn02\n", "val_annotations.txt:1 is"),
        ("", "names no image"),
    ],
    ids=["unknown class", "no tab", "outside", "empty"],
)
def test_annotations_that_cannot_be_used_are_refused(tmp_path: Path, annotations: str, named: str) -> None:
    write_tiny_imagenet(tmp_path, annotations)
    with refused() as messages:
        folder.locate(of_folder(tmp_path))
    assert named in messages[0]


def test_shards_divide_the_files_and_ids_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtail.data.sources.image_trees.IMAGES_PER_SHARD", 4)
    for name in ("a", "b"):
        write_class(tmp_path / name, 5)
    located = folder.locate(of_folder(tmp_path, test_fraction=0.2))
    assert [len(shard.names) for shard in located.shards] == [4, 4, 2]
    assert rows_of(located).column(ID).to_pylist() == list(range(10))


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"a": 3, "b": 0}, "has no training image of the class 'b'"),
        ({"a": 3}, "has 1 classes: at least two are needed"),
        ({}, "has 0 classes"),
        ({"a": 1, "b": 1}, "has no image for the test set"),
        ({"train/a": 2, "train/b": 1, "test/c": 1}, "has the class 'c'"),
        ({"train/a": 2, "train/b": 1, "test/a": 0}, "has no image: add some"),
    ],
    ids=["empty class", "one class", "no class", "single images", "unknown test class", "empty test"],
)
def test_a_tree_that_cannot_be_used_is_refused_by_name(tmp_path: Path, sizes: dict[str, int], named: str) -> None:
    for name, size in sizes.items():
        (tmp_path / name).mkdir(parents=True)
        write_class(tmp_path / name, size)
    with refused() as messages:
        folder.locate(of_folder(tmp_path))
    assert str(tmp_path) in messages[0] and named in messages[0]


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    damaged = {"truncated": content[: len(content) * 2 // 3], "empty": b"", "page": b"<html>no such page</html>"}
    path.unlink()
    if kind in damaged:
        path.write_bytes(damaged[kind])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "page", "missing"])
def test_a_bad_image_stops_by_name_or_is_left_out(tmp_path: Path, suffix: str, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for i in range(4):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "a" / f"{i}{suffix}")
    write_class(tmp_path / "b", 2)
    located = {how: folder.locate(of_folder(tmp_path, on_bad_image=how)) for how in ("stop", "skip")}
    damage(tmp_path / "a" / f"1{suffix}", kind)
    with refused() as messages:
        rows_of(located["stop"])
    assert f"{tmp_path}/a/1{suffix} cannot be decoded" in messages[0] and "--on_bad_image skip" in messages[0]
    rows = rows_of(located["skip"]).to_pylist()
    (skipped,) = [row for row in rows if row[SPLIT] == SKIPPED]
    name, reason = read_skipped_image(skipped[IMAGE])
    assert name == f"{tmp_path}/a/1{suffix}" and reason in messages[0]
    assert len(rows) == 6 and skipped[LABEL] == 0


def test_images_that_a_pass_has_checked_are_not_decoded_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, 2)
    located = folder.locate(of_folder(tmp_path))
    (tmp_path / "a" / "000.png").write_bytes(b"no image")
    again = replace(located, shards=[with_check(shard, None) for shard in located.shards])
    assert b"no image" in rows_of(again).column(IMAGE).to_pylist()
    with refused():
        rows_of(located)


def test_a_list_names_training_and_test_images(tmp_path: Path) -> None:
    write_class(tmp_path / "images with spaces", 4)
    name = "images with spaces/00"
    options = of_list(tmp_path, f"{name}0.png 1\n{name}1.png 0\n\n{name}3.png 1\n", test=f"{name}2.png 0\n")
    located = image_list.locate(options)
    assert (located.class_names, located.image_shape) == (["0", "1"], (224, 224, 3))
    rows = rows_of(located, image_list.read)
    assert rows.column(LABEL).to_pylist() == [1, 0, 1, 0]
    assert rows.column(SPLIT).to_pylist() == [TRAIN] * 3 + [TEST]
    assert rows.column(IMAGE)[3].as_py() == (tmp_path / f"{name}2.png").read_bytes()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a.png 0\nb.png\n", "train.txt:2 is 'b.png': a path, a space and a label were expected"),
        ("a.png 0\nb.png -1\n", "train.txt:2"),
        ("a.png 0\nb.png one\n", "train.txt:2"),
        ("a.png 0\n/etc/b.png 1\n", "train.txt:2 names /etc/b.png, which is outside --path"),
        ("a.png 0\nx/../../b.png 1\n", "train.txt:2 names x/../../b.png, which is outside --path"),
        ("a.png 0\na.png 1\n", "names an image more than once"),
        ("\n", "names no image"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_the_line(tmp_path: Path, text: str, named: str) -> None:
    options = of_list(tmp_path, text, test="t.png 0\n")
    with refused() as messages:
        image_list.locate(options)
    assert named in messages[0]


def test_a_test_label_that_no_training_image_has_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        image_list.locate(of_list(tmp_path, "a.png 0\nb.png 1\n", test="c.png 2\n"))
    assert "test.txt:1 has the label 2, which no training image has" in messages[0]


def test_a_file_that_a_list_names_and_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (1, 2, 3))
    write_image(tmp_path / "b.png", (1, 2, 3))
    located = image_list.locate(of_list(tmp_path, "a.png 0\ngone.png 1\n", test="b.png 0\n"))
    with refused() as messages:
        rows_of(located, image_list.read)
    assert f"{tmp_path}/gone.png cannot be decoded (no such file)" in messages[0]


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_cut_to_its_middle_square() -> None:
    # 4 x 8: the outer quarters are white, the middle square is black on the left and grey on the right.
    picture = np.full((4, 8, 3), 255, np.uint8)
    picture[:, 2:4], picture[:, 4:6] = 0, 100
    assert decode(png(picture), 4).tolist() == [[[0] * 3] * 2 + [[100] * 3] * 2] * 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_is_scaled_to_the_size(kind: str) -> None:
    # Black above, white below: far from the border between them both keep their value.
    picture = np.zeros((300, 200, 3), np.uint8)
    picture[150:] = 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    scaled = decode(file.getvalue(), 10)
    assert scaled.shape == (10, 10, 3)
    assert (scaled[:4] <= 2).all() and (scaled[6:] >= 253).all()


def test_grey_pictures_become_rgb() -> None:
    assert decode(png(np.full((2, 2), 9, np.uint8)), 2).tolist() == [[[9] * 3] * 2] * 2


def test_a_column_of_files_becomes_an_array_in_its_order() -> None:
    colours = [colour_of(i) for i in range(50)]
    column = pa.chunked_array(
        [pa.array([png(np.full((3, 3, 3), colour, np.uint8)) for colour in colours[i : i + 20]]) for i in (0, 20, 40)]
    )
    images = decode_files(column, (2, 2, 3))
    assert images.shape == (50, 2, 2, 3) and images.dtype == np.uint8
    assert images[:, 1, 1].tolist() == [list(colour) for colour in colours]


def test_a_file_that_cannot_be_decoded_is_refused() -> None:
    with refused() as messages:
        decode_files(pa.array([png(np.zeros((2, 2, 3), np.uint8)), b"no image"]), (2, 2, 3))
    assert "image 1 of a set cannot be decoded" in messages[0]


def raw_base(shape: tuple[int, int, int] = (8, 8, 3)) -> Located:
    return Located(shards=[], origin="", class_names=["a", "b"], image_shape=shape)


def test_a_directory_of_images_becomes_unlabeled_pixels_of_the_sets_shape(tmp_path: Path) -> None:
    write_class(tmp_path / "some" / "where", 3)
    located = DirectoryOfImages.locate(in_directory(tmp_path, unlabeled=str(tmp_path)), raw_base())
    rows = rows_of(located, DirectoryOfImages.read)
    assert (located.encoding, located.origin) == (RAW, f"images of {tmp_path.name}: 3 images")
    assert rows.column(ID).to_pylist() == [UNLABELED_FIRST_ID + i for i in range(3)]
    assert rows.column(LABEL).to_pylist() == [NO_CLASS] * 3 and rows.column(SPLIT).to_pylist() == [UNLABELED] * 3
    assert rows.column(IMAGE).to_pylist() == [bytes(colour_of(i)) * 64 for i in range(3)]


@pytest.mark.parametrize(
    ("values", "shape", "named"),
    [
        ({"imb_factor_unlabel": 1.0}, (8, 8, 3), "--imb_factor_unlabel cannot be applied"),
        ({}, (8, 8, 1), "become square RGB, digits has (8, 8, 1)"),
        ({"unlabeled": "empty"}, (8, 8, 3), "has no image of a kind that is read"),
    ],
)
def test_a_directory_that_does_not_fit_is_refused(
    tmp_path: Path, values: dict[str, object], shape: tuple[int, int, int], named: str
) -> None:
    write_class(tmp_path / "full", 1)
    (tmp_path / "empty").mkdir()
    unlabeled = tmp_path / str(values.pop("unlabeled", "full"))
    with refused() as messages:
        DirectoryOfImages.locate(in_directory(tmp_path, unlabeled=str(unlabeled), **values), raw_base(shape))
    assert str(unlabeled) in messages[0] and named in messages[0]


def test_the_rest_is_every_image_below_the_path_that_no_list_names(tmp_path: Path) -> None:
    write_class(tmp_path / "a", 6)
    write_class(tmp_path / "b", 3)
    options = of_list(
        tmp_path, "a/000.png 0\na/./001.png 0\nb/000.png 1\n", test="a/002.png 0\nb//001.png 1\n", unlabeled="rest"
    )
    base = image_list.locate(options)

    located = unlabeled_source(options, base).locate(options, base)

    names = rows_of(located, RestOfImages.read).column(IMAGE).to_pylist()
    assert names == [(tmp_path / name).read_bytes() for name in ("a/003.png", "a/004.png", "a/005.png", "b/002.png")]
    assert located.origin == f"other images of {tmp_path.name}: 4 images"


def test_a_path_of_which_the_lists_name_every_image_has_no_rest(tmp_path: Path) -> None:
    write_class(tmp_path, 4)
    options = of_list(tmp_path, "000.png 0\n001.png 1\n", test="002.png 0\n003.png 1\n", unlabeled="rest")
    with refused() as messages:
        RestOfImages.locate(options, image_list.locate(options))
    assert "has no other image than the lists name" in messages[0]


def test_the_rest_needs_lists(tmp_path: Path) -> None:
    with refused() as messages:
        in_directory(tmp_path, dataset="folder", path=tmp_path, unlabeled="rest")
    assert "--unlabeled rest means the images below --path that no list names" in messages[0]


def test_an_unlabeled_source_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        unlabeled_source(in_directory(tmp_path, unlabeled="no/such"), raw_base())
    assert "--unlabeled no/such: there is no such file or directory (or give rest or svhn_extra)" in messages[0]


def test_a_folder_that_cannot_be_read_is_refused_instead_of_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "photos" / "a" / "1.png", colour_of(1))
    write_image(tmp_path / "photos" / "closed" / "2.png", colour_of(2))
    scandir = os.scandir

    def refusing(path: str) -> object:  # root may read everything
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    with refused() as messages:
        list(files_below(tmp_path / "photos"))
    assert messages == [
        f"cannot read the folder {tmp_path}/photos/closed: Permission denied; make it readable, or move it elsewhere"
    ]
