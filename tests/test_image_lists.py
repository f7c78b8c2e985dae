"""Lists of images as editors, spreadsheets and programs write them."""

import csv
import os
import time
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.sources import image_list
from longtail.data.sources.base import Located
from tests.image_tree import write_image
from tests.refusals import refused
from tests.sources import in_directory


def located(path: Path, content: str | bytes, *, test: str = "", val: str = "", **values: object) -> Located:
    files = {"list_file": content, "test_list_file": test, "val_list_file": val}
    given = {}
    for name, text in files.items():
        if text:
            given[name] = path / f"{name}.txt"
            given[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    return image_list.locate(in_directory(path, dataset="image_list", path=path, **given, **values))


def images_of(found: Located, split: str = "") -> list[tuple[str, str]]:
    """Name and class name of each image."""
    shards = [shard for shard in found.shards if split in ("", shard.split)]
    images = [
        (name, found.class_names[label])
        for shard in shards
        for name, label in zip(shard.names, shard.labels, strict=True)
    ]
    return sorted(images)


PLAIN = [("x/a.jpg", "0"), ("x/b.jpg", "1"), ("y/c d.jpg", "0"), ("y/e.jpg", "1")]
SPACES = "".join(f"{name} {label}\n" for name, label in PLAIN)


@pytest.mark.parametrize(
    "content",
    [
        SPACES,
        "\ufeff" + SPACES,
        SPACES.replace("\n", "\r\n"),
        SPACES.replace("\n", "\r"),
        SPACES.replace("\n", "\n\n  \n"),
        SPACES.removesuffix("\n"),
        SPACES.encode("utf-16"),
        "\ufeff".encode("utf-16-be") + SPACES.encode("utf-16-be"),
        "".join(f"  {name}   \t {label} \n" for name, label in PLAIN),
        "".join(f"{name}\t{label}\n" for name, label in PLAIN),
        "".join(f"{name}\t\t{label}\n" for name, label in PLAIN),
        "".join(f"{name},{label}\n" for name, label in PLAIN),
        "".join(f"{name}, {label}\n" for name, label in PLAIN),
        "".join(f"{name};{label}\n" for name, label in PLAIN),
        "".join(f'"{name}","{label}"\r\n' for name, label in PLAIN),
        "".join(f'"{name}" {label}\n' for name, label in PLAIN),
        "".join(f"./{name} 0{label}\n" for name, label in PLAIN),
        "Path,Label\n" + "".join(f"{name},{label}\n" for name, label in PLAIN),
        "label\tsource\tfilename\n" + "".join(f"{label}\tme\t{name}\n" for name, label in PLAIN),
        "path label\n" + SPACES,
    ],
)
def test_one_list_in_many_spellings(tmp_path: Path, content: str | bytes) -> None:
    assert images_of(located(tmp_path, content)) == PLAIN


def test_the_lists_of_pandas_and_of_the_csv_module(tmp_path: Path) -> None:
    rows = [("a, b.jpg", "sea lion"), ('say "x".jpg', "ox"), ("c.jpg", "sea lion"), ("line\nbreak.jpg", "ox")]
    frame = pd.DataFrame(rows, columns=["image", "label"])
    for separator in (",", "\t", ";"):
        assert images_of(located(tmp_path, frame.to_csv(sep=separator))) == sorted(rows)
        assert images_of(located(tmp_path, frame.to_csv(sep=separator, index=False))) == sorted(rows)
    for dialect in ("excel", "excel-tab", "unix"):
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file, dialect).writerows(rows)
        assert images_of(located(tmp_path, (tmp_path / "list.csv").read_bytes())) == sorted(rows)


def test_columns_of_other_names_are_named_by_options(tmp_path: Path) -> None:
    content = "photo,label,kind\na.jpg,7,ox\nb.jpg,7,ant\n"
    found = located(tmp_path, content, image_column="photo", label_column="kind", test=content.replace(".jpg", ".png"))
    assert images_of(found, TRAIN) == [("a.jpg", "ox"), ("b.jpg", "ant")]


def test_names_are_classes_in_their_order_and_numbers_in_theirs(tmp_path: Path) -> None:
    test = "t.jpg ox\n"
    assert located(tmp_path, "a.jpg ox\nb.jpg ant\nc.jpg Bee\n", test=test).class_names == ["Bee", "ant", "ox"]
    gaps = "a.jpg 10\nb.jpg 2\nc.jpg 1\nd.jpg 99\n"
    found = located(tmp_path, gaps, test="t.jpg 010\n", val="v.jpg 2\n")
    assert found.class_names == ["1", "2", "10", "99"]
    assert images_of(found, TRAIN) == [("a.jpg", "10"), ("b.jpg", "2"), ("c.jpg", "1"), ("d.jpg", "99")]
    assert (images_of(found, TEST), images_of(found, VAL)) == ([("t.jpg", "10")], [("v.jpg", "2")])
    assert found.origin == (
        "images of lists: list_file.txt, 4 classes, 4 images; test set test_list_file.txt, 1 classes, 1 images; "
        "validation set val_list_file.txt, 1 classes, 1 images"
    )


def test_absolute_paths_inside_the_tree_are_taken(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to("tree")
    names = [tmp_path / "tree" / "a.jpg", tmp_path / "link" / "b.jpg"]
    content = "".join(f"{name} {number}\n" for number, name in enumerate(names))
    (tmp_path / "list.txt").write_text(content)
    values = {"dataset": "image_list", "path": tmp_path / "link", "list_file": tmp_path / "list.txt"}
    (tmp_path / "test.txt").write_text("t.jpg 0\n")
    values["test_list_file"] = tmp_path / "test.txt"
    assert images_of(image_list.locate(in_directory(tmp_path, **values)), TRAIN) == [("a.jpg", "0"), ("b.jpg", "1")]


def test_paths_of_windows_and_latin_1_lists_find_their_files(tmp_path: Path) -> None:
    names = ["x/a.jpg", "café.jpg", os.fsdecode(b"caf\xe9 2.jpg"), "back\\slash.jpg"]
    for name in names:
        write_image(tmp_path / name, (1, 2, 3))
    content = b"x\\a.jpg 0\ncaf\xe9.jpg 1\ncaf\xe9 2.jpg 0\nback\\slash.jpg 1\n"
    found = located(tmp_path, content)
    assert [name for name, _ in images_of(found)] == sorted(names)
    assert sum(image_list.read(shard).num_rows for shard in found.shards) == 4


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            "a.jpg 0\nb.jpg 99999999999999999999\n",
            "txt:2 has the label 99999999999999999999: a name, or a whole",
        ),
        (f"a.jpg 0\nb.jpg {'9' * 5000}\n", "txt:2 has the label 9999999999999999999999999999999999999999: a name, or"),
        ("a.jpg 0\nb.jpg -1\n", "txt:2 has the label -1: a name, or a whole number from 0 on"),
        ("a.jpg 0.0\nb.jpg 1.0\n", "txt:1 has the label 0.0: a name, or a whole number"),
        ("a.jpg 0\nb.jpg one\n", "txt:2 has the label 'one', others are numbers: use one of the two"),
        ("a.jpg,0\nb.jpg,1,x\n", "txt:2 is 'b.jpg 1 x': a path, a space and a label"),
        ("a.jpg,0\nb.jpg,\n", "txt:2 is 'b.jpg ': a path"),
        ("path,class,label\na.jpg,ox,\n", "txt:2 is 'a.jpg ': a path"),
        ("path,class,y\na.jpg,ox,1\n", "has the columns path, class, y: name those of path and label with"),
        ('"a.jpg,0\nb.jpg,1\n', "txt:1 is '\"a.jpg,0': a path"),
        ("a.jpg ox\nx/../b.jpg ant\n", "txt:2 names x/../b.jpg, which is outside --path"),
        ("a.jpg ox\n/b.jpg ant\n", "txt:2 names /b.jpg, which is outside --path"),
        ("a.jpg 0\nb.jpg 1\n./a.jpg 1\n", "names an image more than once, ./a.jpg in the lines 1 and 3"),
        ("t.jpg\t0\x1b[31m\nb.jpg\t0\n", "has the label '0\\x1b[31m', others are numbers"),
        (
            "path,label\na,b.jpg,0\n",
            "txt:2 has 3 fields, its header 2: put a field that has the separator in it between",
        ),
        ("path,label,label\na.jpg,0,1\n", "has the columns path, label, label: name those"),
        ("# images\na.jpg 0\n", "txt:1 has the label 'images', others are numbers"),
        (b"\xff\xfea", "cannot read the list"),
    ],
)
def test_lines_that_are_unclear_are_refused_by_number(tmp_path: Path, content: str | bytes, named: str) -> None:
    with refused() as messages:
        located(tmp_path, content, test="t.jpg 0\n")
    assert named in messages[0]


def test_labels_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    content = "a.jpg,ox\nb.jpg, ox \nc.jpg,ox\u00a0\nd.jpg,\ufeffox\ne.jpg,ox\u200b\nf.jpg,Ox\n"
    found = located(tmp_path, content, test="t.jpg ox\n")
    assert found.class_names == ["Ox", "ox"]
    assert found.origin.endswith("; the classes 'Ox' and 'ox' differ in capital letters alone")


def test_a_class_name_that_metric_events_cannot_have_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        located(tmp_path, f"a.jpg ox\nb.jpg {'c' * 1001}\n", test="t.jpg ox\n")
    assert "whose name has more than 1000 bytes: rename it" in messages[0]


@pytest.mark.parametrize("content", ["path,label,kind\na.jpg,0,ox\n", "a.jpg 0\nb.jpg 1\n"])
def test_a_column_that_the_user_names_is_taken_or_refused(tmp_path: Path, content: str) -> None:
    with refused() as messages:
        located(tmp_path, content, label_column="sort")
    assert "list_file.txt has no column 'sort' in its first line, which is" in messages[0]


def test_an_image_in_two_lists_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        located(tmp_path, "a.jpg 0\nb.jpg 1\n", test="./b.jpg 1\n")
    assert messages[0].startswith(f"{tmp_path}/b.jpg is in the train split and in the test split")


def test_large_labels_take_no_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    found = located(tmp_path, "a.jpg 0\nb.jpg 999999999999999999\n", test="t.jpg 0\n")
    assert found.class_names == ["0", "999999999999999999"] and tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_long_list_is_read_in_seconds(tmp_path: Path) -> None:
    """20,000 lines take 0.2 s of processor time, iNaturalist's 437,513 so 5: it grows with the lines alone."""
    content = "".join(f"train/{number % 997}/{number}.jpg {number % 997}\n" for number in range(20_000))
    began = time.process_time()
    assert len(located(tmp_path, content, test="t.jpg 3\n").class_names) == 997
    assert time.process_time() - began < 5
