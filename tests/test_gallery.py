"""The images behind a number: the right ones, of a set of any size, and a clear sentence where there are none."""

import io
import socket
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from longtail.conf.base.locations import location
from longtail.conf.vocabulary import TEST, UNLABELED
from longtail.data import row_lookup
from longtail.data.contract import ENCODED, HIDDEN_LABEL, ID, IMAGE, LABEL
from longtail.data.kept_predictions import LABELLING, kept_rows, write_kept
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.row_groups import RowGroup
from longtail.data.row_lookup import find_rows
from longtail.data.thumbnails import MOST_PIXELS, thumbnail
from longtail.spark_jobs.api.images import images_of_run
from longtail.spark_jobs.steps.run_images import images_of_runs, run_gallery
from longtail.streaming.dashboard.gallery import (
    CELL,
    CLASS,
    PSEUDO_LABELS,
    Gallery,
    ShownGroup,
    ShownImage,
    WantedImages,
    gallery_html,
    title_of,
)
from longtail.streaming.dashboard.gallery_query import wanted_images
from longtail.streaming.dashboard.server import dashboard_page, listening_socket, serving
from tests.prepared_set import change_manifest, image_rows, write_manifest, write_split
from tests.refusals import refused
from tests.result_rows import class_rows, table
from tests.test_dashboard_page import ONE_RUN, ask, reader_of
from tests.tiny_set import unlabeled_ids, write_tiny_set

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that takes the first three images of each class for the next one, surest first, of a set with a hostile
    name of a class."""
    set_dir = write_tiny_set(tmp_path / "set")
    change_manifest(set_dir, lambda values: values["class_names"].__setitem__(2, HOSTILE))
    run_dir, manifest = tmp_path / "runs" / "base", read_manifest(set_dir)
    images = load_split(set_dir, TEST, manifest)
    labels = np.repeat([0, 1, 2], 10)
    predicted = np.where(np.arange(30) % 10 < 3, (labels + 1) % 3, labels)
    confidence = 0.99 - np.arange(30) / 100
    write_kept(run_dir, TEST, kept_rows(images.ids, predicted, confidence, labels), manifest, set_dir=set_dir, epoch=7)
    ids = np.array(unlabeled_ids())
    rows = kept_rows(ids, np.arange(12) % 3, np.arange(12) / 12)
    write_kept(run_dir, UNLABELED, rows, manifest, set_dir=set_dir, epoch=0, source=LABELLING, per_class=100)
    return run_dir


def wanted(kind: str, truth: int, predicted: int | None = None) -> WantedImages:
    guess = truth if predicted is None else predicted
    return WantedImages(kind=kind, run="base", split=TEST, truth=(truth,), predicted=(guess,), title="title")


def keys(gallery: Gallery) -> dict[str, list[int]]:
    return {f"{group.title}, {group.order}": [image.key for image in group.images] for group in gallery.groups}


def pixels(image: ShownImage) -> np.ndarray:
    kind, _, content = image.source.partition(";base64,")
    assert kind == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(b64decode(content))))


def test_a_cell_shows_the_images_of_one_class_that_were_taken_for_another(run_dir: Path) -> None:
    set_dir = run_dir.parents[1] / "set"
    images = load_split(set_dir, TEST, read_manifest(set_dir))
    gallery = run_gallery(run_dir, wanted(CELL, 0, 1))
    first = int(images.ids[0])
    assert keys(gallery) == {"Mistakes, The surest first.": [first, first + 1, first + 2]}
    assert gallery.note == "Predictions of the test set after epoch 7."
    for number, image in enumerate(gallery.groups[0].images):
        assert np.array_equal(pixels(image), images.images[number][:, :, 0])
        assert (image.truth, image.predicted, image.is_right) == ("class 0", "class 1", False)
    assert (
        gallery.groups[0].images[0].text
        == f"image {first} of the class class 0, predicted as class 1 with confidence 99%"
    )
    diagonal = run_gallery(run_dir, wanted(CELL, 1))
    assert keys(diagonal) == {"Recognised, The least sure first.": list(range(first + 19, first + 12, -1))}
    assert run_gallery(run_dir, wanted(CELL, 0, 2)).problem == "There is no such image."


def test_a_class_shows_its_mistakes_what_was_taken_for_it_and_its_pseudo_labels(run_dir: Path) -> None:
    found = run_gallery(run_dir, wanted(CLASS, 2), most_shown=2)
    first, unlabeled = 58, unlabeled_ids()[0]
    assert keys(found) == {
        "Taken for another class, The surest first.": [first + 20, first + 21],
        "Other classes predicted as it, The surest first.": [first + 10, first + 11],
        "Recognised, The least sure first.": [first + 29, first + 28],
        "Pseudo-labels made with this run's checkpoint, The surest first.": [unlabeled + 11, unlabeled + 8],
        "Pseudo-labels made with this run's checkpoint, The least sure first.": [unlabeled + 2, unlabeled + 5],
    }
    assert [group.number for group in found.groups] == [3, 3, 7, 4, 4]
    # The withheld classes of the twelve: 0 0 0 1 1 1 1 2 2 2 2 2.
    assert [image.truth for image in found.groups[3].images] == [HOSTILE, HOSTILE]
    assert [(image.truth, image.is_right) for image in found.groups[4].images] == [
        ("class 0", False),
        ("class 1", False),
    ]
    only = run_gallery(run_dir, wanted(PSEUDO_LABELS, 2))
    assert [image.key - unlabeled for image in only.groups[0].images] == [11, 8, 5, 2] and len(only.groups) == 1


def test_names_of_classes_are_text(run_dir: Path) -> None:
    html = gallery_html(run_gallery(run_dir, replace(wanted(CLASS, 2), title=title_of(CLASS, [HOSTILE], [HOSTILE]))))
    assert "<img src=x" not in html and "&lt;img src=x onerror=alert(1)&gt;" in html
    assert html.count('<figure class="wrong">') == 3 + 3 + 2, "two of the four pseudo-labels are wrong"
    assert html.count('alt="image ') == html.count("<img ") == 3 + 3 + 7 + 4


@pytest.mark.parametrize(("confidence", "percent"), [(0.996, "100"), (0.012, "1"), (0.00031, "0.03"), (0.0, "0")])
def test_a_confidence_below_one_percent_is_not_shown_as_none(confidence: float, percent: str) -> None:
    """As the surest predictions among thousands of classes have after an epoch."""
    image = ShownImage(key=1, source="data:,", truth="a", predicted="b", confidence=confidence)
    group = ShownGroup(title="Mistakes", number=1, order="", images=[image])
    html = gallery_html(Gallery(title="a", groups=[group]))
    assert f"→ b {percent} %<" in html and f"with confidence {percent}%" in html


def test_an_image_that_is_of_no_class_has_no_truth(tmp_path: Path) -> None:
    set_dir = tmp_path / "set"
    for split, truth in ((TEST, {"labels": [0]}), (UNLABELED, {"hidden_labels": [None]})):
        write_split(set_dir, split, image_rows([len(split)], np.zeros((1, 4, 4, 3), np.uint8), **truth))
    manifest = write_manifest(set_dir, {TEST: [1], UNLABELED: [0]}, image_shape=(4, 4, 3), num_classless=1)
    rows = kept_rows(np.array([len(UNLABELED)]), np.array([0]), np.array([0.5]))
    write_kept(tmp_path / "run", UNLABELED, rows, manifest, set_dir=set_dir, epoch=3, source="steps")
    (group,) = run_gallery(tmp_path / "run", wanted(PSEUDO_LABELS, 0)).groups
    assert group.title == "Pseudo-labels that the steps of epoch 3 were confident enough to learn"
    assert (group.images[0].truth, group.images[0].is_right) == (None, None)
    assert "of unknown class" in group.images[0].text


def test_only_row_groups_with_wanted_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_dir, ids = tmp_path / "set", np.arange(0, 400, 2)
    images = (ids[:, None, None, None] % 256).astype(np.uint8) * np.ones((1, 2, 2, 1), np.uint8)
    for part in (0, 1):  # by a hash of the id, as Spark writes them
        mine = (ids // 2) % 2 == part
        rows = image_rows(ids[mine].tolist(), images[mine], labels=[0] * int(mine.sum()))
        write_split(set_dir, TEST, rows, file_name=f"part-{part}.parquet", row_group_size=10)
    manifest = write_manifest(set_dir, {TEST: [200]}, image_shape=(2, 2, 1))
    read: list[tuple[str, int, tuple[str, ...]]] = []
    whole = row_lookup.read_columns_of_group

    def counted(group: RowGroup, columns: list[str]) -> pa.Table:
        assert isinstance(group.file, Path)
        read.append((group.file.name, group.index, tuple(columns)))
        return whole(group, columns)

    monkeypatch.setattr(row_lookup, "read_columns_of_group", counted)
    found = find_rows(set_dir, TEST, [0, 4, 398, 399], manifest, columns=[IMAGE, LABEL]).sort_by(ID)
    assert found[ID].to_pylist() == [0, 4, 398] and found[LABEL].to_pylist() == [0, 0, 0]
    assert [content[0] for content in found[IMAGE].to_pylist()] == [0, 4, 398 % 256]
    with_images = {(file, index) for file, index, columns in read if IMAGE in columns}
    assert with_images == {("part-0.parquet", 0), ("part-1.parquet", 9)}
    assert len(read) <= 5, "of forty column chunks of ids"


def test_a_set_that_was_prepared_anew_in_other_files_is_found(tmp_path: Path) -> None:
    set_dir = tmp_path / "set"
    rows = image_rows([5], np.full((1, 2, 2, 1), 9, np.uint8), labels=[0])
    file = write_split(set_dir, TEST, rows)
    manifest = write_manifest(set_dir, {TEST: [1]}, image_shape=(2, 2, 1))
    assert len(find_rows(set_dir, TEST, [5], manifest, columns=[HIDDEN_LABEL])) == 1
    file.rename(file.with_name("part-1.parquet"))
    assert len(find_rows(set_dir, TEST, [5], manifest, columns=[HIDDEN_LABEL])) == 1


@pytest.mark.parametrize("side", [32, 224])
def test_a_thumbnail_is_small_whatever_the_image_is(run_dir: Path, side: int) -> None:
    manifest = read_manifest(run_dir.parents[1] / "set")
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    kind, content = thumbnail(noise.tobytes(), replace(manifest, image_shape=(side, side, 3)))
    shown = Image.open(io.BytesIO(content))
    assert (kind, shown.size) == (("image/png", (32, 32)) if side == 32 else ("image/jpeg", (MOST_PIXELS, MOST_PIXELS)))
    assert len(content) < 16_000
    if side == 32:
        assert np.array_equal(np.asarray(shown), noise)
    with refused() as messages:
        thumbnail(b"no image", replace(manifest, image_shape=(side, side, 3), encoding=ENCODED))
    assert "cannot be decoded" in messages[0]


def gone(run_dir: Path) -> None:
    (run_dir.parents[1] / "set").rename(run_dir.parents[1] / "elsewhere")


def of_other_images(run_dir: Path) -> None:
    change_manifest(run_dir.parents[1] / "set", lambda values: values["class_names"].reverse())


def in_a_store(run_dir: Path) -> None:
    file = run_dir / "predictions" / "test.parquet"
    manifest = read_manifest(run_dir.parents[1] / "set")
    rows = kept_rows(np.array([58]), np.array([0]), np.array([0.5]), np.array([0]))
    file.unlink()
    write_kept(run_dir, TEST, rows, manifest, set_dir=location("s3a://somebody/sets/x"), epoch=1)


def without_predictions(run_dir: Path) -> None:
    (run_dir / "predictions" / "test.parquet").unlink()
    (run_dir / "predictions" / "unlabeled.parquet").unlink()


def damaged(run_dir: Path) -> None:
    (run_dir / "predictions" / "test.parquet").write_bytes(b"nothing")


def a_link(run_dir: Path) -> None:
    run_dir.rename(run_dir.parents[1] / "outside")
    run_dir.symlink_to(run_dir.parents[1] / "outside")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gone, "is not a prepared data set"),
        (of_other_images, "has other images now than those that the run was trained on"),
        (in_a_store, "is in a store that the runs are not in: it is not asked"),
        (without_predictions, "there are no predictions in"),
        (damaged, "is damaged"),
        (a_link, "is a link, which may lead anywhere"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_where_there_are_no_images_one_sentence_says_why(run_dir: Path, change, message: str) -> None:
    change(run_dir)
    gallery = images_of_runs(run_dir.parent)(wanted(CLASS, 0))
    assert gallery.problem is not None and message in gallery.problem and "\n" not in gallery.problem
    assert gallery.groups == []


def test_tables_whose_runs_are_nowhere_say_so() -> None:
    assert "start the page with --runs_dir" in (images_of_runs(None)(wanted(CLASS, 0)).problem or "")


@contextmanager
def server(images: Callable[[WantedImages], Gallery] | None) -> Iterator[socket.socket]:
    rows = class_rows({0: [0.5, 0.75], 1: [0.25, 0.5], 2: [0.0, 0.25]})
    tables = {"runs": table("runs", {}), "epochs": ONE_RUN["epochs"], "class_epochs": rows}
    listening = listening_socket("127.0.0.1", 0)
    with serving(dashboard_page(reader_of(tables), lambda: "7", host="127.0.0.1", images=images), listening):
        yield listening


def test_the_server_gives_the_gallery_of_classes_and_of_rows_of_charts(run_dir: Path) -> None:
    with server(images_of_runs(run_dir.parent)) as listening:
        status, headers, content = ask(listening, "/images?run=base&split=test&show=cell&truth=0&predicted=1")
        assert status == 200 and headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "class 0 predicted as class 1" in content.decode() and content.decode().count("<img ") == 3
        # Rows of a chart: of the selected classes, from head to tail.
        of_rows = "/images?run=base&split=test&show=cell&rows=2&truth_row=0&predicted_row=1&group=all&classes="
        content = ask(listening, of_rows)[2].decode()
        assert "<h2>2 classes (class 0 … class 1) predicted as class 2</h2>" in content
        assert content.count("<img ") == 3, "those of class 1"
        few = "/images?run=base&split=test&show=class&rows=1&truth_row=0&predicted_row=0&group=few"
        assert "<h2>class 2</h2>" in ask(listening, few)[2].decode()


def test_no_text_of_an_address_becomes_a_path_or_a_class() -> None:
    asked: list[WantedImages] = []

    def images(wanted: WantedImages) -> Gallery:
        asked.append(wanted)
        return Gallery(title=wanted.title)

    base = {"run": "base", "split": "test", "show": "class", "truth": "0", "predicted": "0"}
    bad = [
        {"run": "../base"}, {"run": "other"}, {"run": "base/../base"}, {"run": ""}, {"split": "train"},
        {"split": "../test"}, {"show": "everything"}, {"truth": "3"}, {"truth": "-1"}, {"truth": "0x1"},
        {"truth": "9" * 400}, {"truth": "٣"}, {"truth": ""}, {"rows": "0"}, {"rows": "101"},
        {"rows": "2", "truth_row": "2", "predicted_row": "0"}, {"rows": "2", "truth_row": "0", "predicted_row": ""},
        {"rows": "2", "truth_row": "0", "predicted_row": "0", "group": "../x"},
        {"rows": "2", "truth_row": "0", "predicted_row": "0", "classes": "no such name"},
    ]  # fmt: skip
    with server(images) as listening:
        for change in bad:
            query = "&".join(f"{name}={quote(value)}" for name, value in {**base, **change}.items())
            assert ask(listening, f"/images?{query}")[0] == 404, change
        assert asked == []
    with server(None) as listening:
        assert ask(listening, "/images?" + "&".join(f"{name}={value}" for name, value in base.items()))[0] == 404


def test_a_band_of_many_classes_is_asked_for_by_its_row() -> None:
    rows = class_rows({class_id: [0.5] for class_id in range(1000)})
    found = wanted_images(
        reader_of({"runs": table("runs", {}), "class_epochs": rows}),
        {"run": "base", "split": "test", "show": "cell", "rows": "50", "truth_row": "49", "predicted_row": "0"},
    )
    assert found is not None
    assert found.truth == tuple(range(980, 1000)) and found.predicted == tuple(range(20))
    assert found.title == "20 classes (class 980 … class 999) predicted as 20 classes (class 0 … class 19)"


def test_images_in_a_notebook(run_dir: Path, tmp_path: Path) -> None:
    names = ["class 0", "class 1", HOSTILE]
    nothing = {"truth": None, "prediction": None, "pseudo_labels": None, "split": None, "most_shown": 5}

    def images(of: str | int | None = None, **changes: object):
        return images_of_run(run_dir, names, of, **{**nothing, **changes})

    cell = images(truth="class 0", prediction=1)
    assert cell.table["id"].tolist() == [58, 59, 60] and set(cell.table["prediction"]) == {"class 1"}
    assert "<style>" in cell._repr_html_() and "<h2>class 0 predicted as class 1</h2>" in cell._repr_html_()
    row = images(truth="class 0")
    assert row.table["group"].tolist() == ["Mistakes"] * 3 + ["Recognised"] * 5
    column = images(prediction="class 1")
    assert set(column.table[column.table["group"] == "Mistakes"]["truth"]) == {"class 0"}
    assert len(images("class 1").table) == 3 + 3 + 5 + 4
    assert images(pseudo_labels=HOSTILE).table["prediction"].unique().tolist() == [HOSTILE]
    assert images(pseudo_labels=0).gallery.title == "Unlabeled images predicted as class 0"
    page = images(HOSTILE).save(tmp_path / "images.html").read_text()
    assert page.startswith("<!doctype html>") and "<img src=x" not in page
    for call, message in (
        (lambda: images(), "one of the three was expected"),
        (lambda: images("class 0", truth=1), "one of the three was expected"),
        (lambda: images("clas 0"), "there is no class 'clas 0' among the 3 of this run (did you mean class 0?)"),
        (lambda: images(3), "there is no class 3"),
        (lambda: images(0, split="train"), "one of val, test was expected"),
    ):
        with refused() as messages:
            call()
        assert message in messages[0]
