"""Directories of images as people have them: splits in any spelling, links, hidden files, odd names."""

import os
import unicodedata
from pathlib import Path

import pytest

from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.directories import files_below
from longtail.data.sources import folder
from longtail.data.sources.own_files import state_of_own_files
from tests.image_tree import write_class, write_image
from tests.refusals import refused
from tests.sources import in_directory


def of_folder(path: Path, **values: object) -> DataOptions:
    return in_directory(path.parent / "data", dataset="folder", path=path, **values)


def write_tree(root: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        write_class(root / name, size)
    return root


def names_by_split(path: Path, **values: object) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for shard in folder.locate(of_folder(path, **values)).shards:
        names.setdefault(shard.split, []).extend(str((shard.path / name).relative_to(path)) for name in shard.names)
    return names


def classes(split: str, size: int) -> dict[str, int]:
    return {f"{split}/cat": size, f"{split}/dog": size}


@pytest.mark.parametrize(
    ("sizes", "layout", "folders"),
    [
        (classes("train", 2) | classes("val", 1), "auto", {TRAIN: "train", TEST: "val"}),
        (classes("train", 2) | classes("test", 1), "auto", {TRAIN: "train", TEST: "test"}),
        (
            classes("train", 2) | classes("val", 1) | classes("test", 1), "auto",
            {TRAIN: "train", VAL: "val", TEST: "test"},
        ),
        (
            classes("Training", 2) | classes("VALID", 1) | classes("Testing", 1), "auto",
            {TRAIN: "Training", VAL: "VALID", TEST: "Testing"},
        ),
        (classes("TRAIN", 2) | classes("Validation", 1), "auto", {TRAIN: "TRAIN", TEST: "Validation"}),
        (classes("Train", 2) | classes("dev", 1), "train_val", {TRAIN: "Train", VAL: "dev"}),
        (classes("train", 2) | classes("val", 1) | classes("test", 1), "train_test", {TRAIN: "train", TEST: "test"}),
        (classes("train", 2) | classes("val", 1) | classes("test", 1), "train", {TRAIN: "train"}),
        (classes("train", 2), "auto", {TRAIN: "train"}),
        (classes("train", 2) | classes("annotations", 1), "train", {TRAIN: "train"}),
        (classes("training_set", 2) | classes("Test Data", 1), "auto", {TRAIN: "training_set", TEST: "Test Data"}),
        (classes("trainset", 2) | classes("eval", 1), "auto", {TRAIN: "trainset", TEST: "eval"}),
    ],
)  # fmt: skip
def test_folders_named_after_splits_are_splits(
    tmp_path: Path, sizes: dict[str, int], layout: str, folders: dict[str, str]
) -> None:
    found = names_by_split(write_tree(tmp_path / "photos", sizes), layout=layout)
    if TEST not in folders:  # a share of train/: one of each class
        found[TRAIN] = sorted(found[TRAIN] + found.pop(TEST))
    assert found == {
        split: [f"{name}/{kind}/{i:03d}.png" for kind in ("cat", "dog") for i in range(sizes[f"{name}/{kind}"])]
        for split, name in folders.items()
    }


def test_what_the_folders_were_taken_for_is_said(tmp_path: Path) -> None:
    sizes = classes("train", 3) | classes("val", 2) | {"annotations": 0, "train/eel": 1}
    path = write_tree(tmp_path / "photos", sizes)
    write_image(path / "train" / "loose.png", (1, 2, 3))
    (path / "train" / "cat" / "notes.txt").write_text("x")
    assert folder.locate(of_folder(path)).origin == (
        "class folders of photos: train/ 3 classes, 7 images; val/ taken as test set, 2 classes, 4 images; not used: "
        "annotations/; not used: 1 images outside the class folders (loose.png); not used: 1 files in train/ that are "
        "no images"
    )


@pytest.mark.parametrize("name", ["train", "test", "Val"])
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, name: str) -> None:
    path = write_tree(tmp_path / "vehicles", {"car": 3, f"{name}": 3})
    if name == "train":
        assert "has no class folders" in refusal(path)
    located = folder.locate(of_folder(path, layout="classes"))
    assert located.class_names == sorted(["car", name])


def test_classes_that_sound_like_splits_are_classes_unless_they_hold_folders(tmp_path: Path) -> None:
    names = ["crash_test", "steam_train", "trainer"]
    path = write_tree(tmp_path / "toys", dict.fromkeys(names, 2))
    assert folder.locate(of_folder(path)).class_names == names


def refusal(path: Path, **values: object) -> str:
    with refused() as messages:
        folder.locate(of_folder(path, **values))
    return messages[0]


@pytest.mark.parametrize(
    ("sizes", "layout", "named"),
    [
        ({"train": 2, "val": 2}, "auto", "train has no class folders, so its images have no class"),
        ({"cat": 2, "dog": 2, "test/cat": 1}, "auto", "has test/ with folders in it, and no train/"),
        ({"car": 2, "train/steam": 1}, "auto", "give --layout train if train/ holds the classes, --layout classes"),
        (classes("train", 1) | classes("Train", 1), "auto", "has Train/ and train/: leave one train folder"),
        (classes("train", 1) | classes("val", 1) | classes("valid", 1), "auto", "has val/ and valid/: leave one val"),
        (classes("train", 1), "train_test", "--layout train_test: "),
        (classes("train", 2) | {"val/bird": 1}, "auto", "val has the class 'bird', which is not in"),
        (classes("train", 2) | {"val/cat": 0}, "auto", "val has no image: add some"),
        (classes("archive", 2), "auto", "has the folder archive/ alone: name that with --path"),
        (
            classes("train2017", 2) | classes("val2017", 1),
            "auto",
            "has the folders train2017/, val2017/ with folders in them: name them train and val if they are splits, or",
        ),
        (classes("ILSVRC_img_Train", 2) | classes("ILSVRC_img_test", 1) | {"cat": 1}, "auto", "name them train and te"),
    ],
)
def test_folders_that_are_unclear_are_refused(tmp_path: Path, sizes: dict[str, int], layout: str, named: str) -> None:
    path = write_tree(tmp_path / "photos", sizes)
    message = refusal(path, layout=layout)
    assert str(path) in message and named in message


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", classes("train", 2) | classes("val", 1))
    (tmp_path / "link").symlink_to(path)
    both = "val/cat/000.png is in the test split and in the val split: leave it out of one of them"
    assert refusal(path, val_path=tmp_path / "link" / "val") == f"{path}/{both}"
    of_train = "train/cat/000.png is in the train split and in the test split"
    assert of_train in refusal(path, layout="train", test_path=path / "train")


def test_classes_whose_names_look_the_same_are_one_and_capitals_are_told(tmp_path: Path) -> None:
    path = write_tree(
        tmp_path / "photos", {"train/cat ": 1, "train/Cat": 1, "train/\ufeffb": 1, "val/cat": 1, "val/b": 1}
    )
    located = folder.locate(of_folder(path))
    assert located.class_names == ["Cat", "b", "cat"]
    assert located.origin.endswith("; the classes 'Cat' and 'cat' differ in capital letters alone")
    write_class(path / "train" / "cat", 1)
    assert "two folders of the class 'cat'" in refusal(path)
    long = write_tree(tmp_path / "long", {"a": 2, "\N{SNOWMAN}" * 80: 2})
    assert len(folder.locate(of_folder(long)).class_names) == 2


def test_validation_and_test_folders_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 2, "dog": 2})
    held_out = write_tree(tmp_path / "more", classes("a", 1) | classes("b", 1))
    located = folder.locate(of_folder(path, val_path=held_out / "a", test_path=held_out / "b"))
    assert [(shard.split, shard.path, shard.names, shard.first_id) for shard in located.shards] == [
        (TRAIN, path, ("cat/000.png", "cat/001.png", "dog/000.png", "dog/001.png"), 0),
        (TEST, held_out / "b", ("cat/000.png", "dog/000.png"), 4),
        (VAL, held_out / "a", ("cat/000.png", "dog/000.png"), 6),
    ]


def test_hidden_and_system_files_and_folders_are_left_out(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 1, "dog": 1, ".git": 1, "cat/.ipynb_checkpoints": 1, "__MACOSX": 1})
    for name in ("cat/._000.png", "cat/.DS_Store", "dog/@eaDir/000.png"):
        write_image(path / f"{name}.png", (1, 2, 3)).rename(path / name)
    (path / "dangling").symlink_to("nowhere")
    (path / "cat" / "dangling.png").symlink_to("nowhere")
    os.mkfifo(path / "cat" / "pipe.png")
    assert [file.relative_to(path).as_posix() for file in files_below(path)] == ["cat/000.png", "dog/000.png"]
    held_out = write_tree(tmp_path / "held out", {"cat": 1})
    assert folder.locate(of_folder(path, test_path=held_out)).class_names == ["cat", "dog"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 1})
    elsewhere = write_tree(tmp_path / "elsewhere", {"dogs": 2})
    (path / "dog").symlink_to(elsewhere / "dogs")
    (path / "cat" / "up").symlink_to(path)
    (path / "cat" / "self").symlink_to(path / "cat")
    (elsewhere / "dogs" / "more").mkdir()
    write_class(elsewhere / "dogs" / "more", 1)
    (elsewhere / "dogs" / "again").symlink_to(elsewhere / "dogs" / "more")
    options = of_folder(path, test_path=write_tree(tmp_path / "held out", {"cat": 1}))
    assert [shard.names for shard in folder.locate(options).shards][0] == (
        "cat/000.png", "dog/000.png", "dog/001.png", "dog/again/000.png",
    )  # fmt: skip
    before = state_of_own_files(options)
    write_image(elsewhere / "dogs" / "001.png", (9, 9, 9))
    assert state_of_own_files(options) != before, "a change behind a link counts"


ODD = ["[b]", "[", "{x}", "a\\b", "c:d", "~", "with space", "$x$", "_y", "<b>", "émile", "日本", "#1", "%s"]


def test_class_names_of_any_printable_characters_are_kept(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", dict.fromkeys(ODD, 2))
    assert folder.locate(of_folder(path)).class_names == sorted(ODD)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb", "'a\\nb', whose name has a control character"),
        (b"\x1b[31mred", "'\\x1b[31mred', whose name has a control character"),
        ("abc\u202ednatsni".encode(), "has a control character"),
        ("line\u2028line".encode(), "has a control character"),
        (b"caf\xe9", "whose name has bytes that are not UTF-8"),
        (b"  ", "has a class without a name"),
    ],
)
def test_a_class_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: bytes, shown: str) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 2, os.fsdecode(name): 2})
    message = refusal(path)
    assert shown in message and message.isprintable()


def test_files_may_have_names_that_are_not_utf_8_or_have_line_breaks(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 1, "dog": 1})
    for name in (b"caf\xe9.png", b"a\nb.png", b"[x].png", b"\x1b[31m.png"):
        write_image(path / "cat" / "x.png", (1, 2, 3)).rename(path / "cat" / os.fsdecode(name))
    located = folder.locate(of_folder(path))
    assert sum(folder.read(shard).num_rows for shard in located.shards) == 6
    (path / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    with refused() as messages:
        for shard in located.shards:
            folder.read(shard)
    assert "cat/caf\\udce9.png cannot be decoded" in messages[0] and messages[0].isprintable()


def test_a_class_is_the_same_in_both_forms_of_its_accent(tmp_path: Path) -> None:
    """macOS writes an accent as a character of its own."""
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    path = write_tree(tmp_path / "photos", {f"train/{apart}": 1, "train/b": 1, f"val/{composed}": 1, "val/b": 1})
    located = folder.locate(of_folder(path))
    assert located.class_names == ["b", composed]
    assert [shard.labels for shard in located.shards] == [(0, 1), (0, 1)]
    write_class(path / "train" / composed, 1)
    assert "two folders of the class" in refusal(path)


def test_images_of_kinds_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "photos", {"cat": 2, "dog": 2})
    for name in ("cat/a.heic", "dog/b.SVG", "dog/c.txt"):
        (path / name).write_text("x")
    assert folder.locate(of_folder(path)).unread == [f"{path}/cat/a.heic", f"{path}/dog/b.SVG"]
    for name in ("000", "001"):
        (path / "dog" / f"{name}.png").rename(path / "dog" / f"{name}.heic")
    assert "no training image of the class 'dog'" in refusal(path)
    assert "(not read: " in refusal(path)
