"""`import longtail as lt`: the jobs as functions, and what the README shows of them."""

import re
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

import longtail as lt
from longtail.spark_jobs.api import dataset
from longtail.spark_jobs.frames import writing
from tests.conftest import REPOSITORY
from tests.refusals import refused
from tests.test_run_reports import write_report


@pytest.mark.usefixtures("spark", "with_digits")
def test_the_ten_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(
        r"```python\n(import longtail as lt\n.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL
    )
    assert len(code.splitlines()) <= 11
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}

    exec(code.replace("epochs=10", "epochs=2"), names)

    run, model, digits = names["run"], names["model"], names["digits"]
    assert isinstance(run, lt.Run) and isinstance(model, lt.Model) and isinstance(digits, lt.Dataset)
    assert run.scores["accuracy"] == run.result["splits"]["test"]["accuracy"]
    assert run.classes["train_count"].tolist() == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
    assert digits.statistics()["train"].tolist() == run.classes["train_count"].tolist()
    assert model.class_names == [str(digit) for digit in range(10)]
    assert "|class_name|" in capsys.readouterr().out
    events = run.events()
    assert set(events[events["kind"] == "class"]["epoch"]) == {1, 2}
    (curves,) = run.curves().axes
    assert curves.get_xlabel() == "epoch" and all(tick == int(tick) for tick in curves.get_xticks())
    (sizes,) = digits.plot().axes
    ticks = [label.get_text() for label in sizes.get_yticklabels(which="both")]
    assert sizes.get_yscale() == "log" and {"10", "20", "40"} <= {*ticks}
    assert dict(digits.summary().loc["train"]).items() >= {"images": 131, "rho": 20}.items()
    assert [axis.get_ylabel() for axis in digits.samples(3, num_classes=2).axes] == ["0", "", "", "9", "", ""]

    title = run.confusion().axes[0].get_title()
    assert title.replace("\n", "") == run.path.name and max(map(len, title.splitlines())) <= 48
    matrix = run.confusion().axes[0].images[0].get_array()
    assert matrix is not None and matrix.shape == (10, 10)
    confusion = run.result["splits"]["test"]["confusion"]
    right = {t: n for t, p, n in zip(*(confusion[k] for k in ("target", "predicted", "count")), strict=True) if t == p}
    support = run.result["splits"]["test"]["totals"]["support"]
    assert matrix.diagonal().tolist() == pytest.approx([right.get(c, 0) / support[c] for c in range(10)])

    cells = zip(confusion["target"], confusion["predicted"], strict=True)
    truth, guess = next(cell for cell in cells if cell[0] != cell[1])
    images = run.images(truth=truth, prediction=guess)
    shown = images.table
    assert repr(images) == f"Images('{truth} predicted as {guess}', {len(shown)} images)", "without the pictures"
    assert set(shown["truth"]) == {str(truth)} and set(shown["prediction"]) == {str(guess)}

    write_report(Path("results/reports/margins"), run.path.name)
    with lt.live("runs") as live, lt.dashboard(live) as page:
        assert live.is_running and page.url.startswith("http://127.0.0.1:")
        epochs = live.update().table("epochs", run=run.path.name)
        chart = live.plot()
        assert chart is not None and len(chart.axes[0].lines) == 4 and live.plot(split="val") is None
        text = urllib.request.urlopen(page.url).read().decode()
        assert run.path.name in text and 'href="reports/margins/report.html"' in text
        with urllib.request.urlopen(f"{page.url}checkpoint?run={run.path.name}&of=last") as sent:
            assert sent.read() == run.checkpoint.read_bytes()
    assert not live.is_running
    last = epochs[(epochs["split"] == "test") & (epochs["epoch"] == 2)]
    assert last["accuracy"].tolist() == pytest.approx([run.scores["accuracy"]])
    with refused() as messages:
        live.table("epoch")
    assert "there is no live table 'epoch'" in messages[0] and "(did you mean epochs?)" in messages[0]
    assert len(lt.live("runs").update().table("runs")) == 1, "processed already, and read again"

    assert lt.train(digits, loss_type="LDAM", epochs=2).path == run.path
    scores = lt.evaluate(run, digits, splits="test")
    assert scores.scores["accuracy"] == pytest.approx(run.scores["accuracy"])
    for call, message in (
        (lambda: lt.train(digits, los_type="LDAM"), "unknown option 'los_type' (did you mean loss_type?)"),
        (lambda: lt.train(digits, imb_factor=0.1), "imb_factor belongs to the data set: give it to prepare()"),
        (lambda: lt.train(digits, lr=-1), "--learning_rate -1: input should be greater than"),
        (lambda: lt.train(digits, lr=0.1, learning_rate=0.1), "learning_rate sets learning_rate a second time"),
        (lambda: lt.train(digits, epochs=-1), "--epochs -1: input should be greater than"),
        (lambda: lt.pretrain(digits, "mocco"), "(did you mean moco?)"),
        (lambda: lt.prepare("cifar11"), "cifar11 is neither a directory, a table nor a data set"),
        (lambda: lt.prepare("cifra10"), "(did you mean cifar10?)"),
        (lambda: lt.train(digits, train_rule="DWR"), "(did you mean DRW?)"),
        (lambda: lt.load(tmp_path / "none"), "there is no checkpoint"),
    ):
        with refused() as messages:
            call()
        assert message in messages[0]


def test_rows_in_memory_that_make_no_table_are_refused_in_one_line(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"image": [b"a", b"b"], "label": ["ant", "bee"]})
    as_objects = rows.assign(image=[np.zeros((2, 2, 3), np.uint8)] * 2)
    encoded = pa.table({"image": [b"a", b"b"], "label": pc.run_end_encode(pa.array(["ant", "bee"]))})
    for source, message in (
        (pd.concat([rows, rows[["label"]]], axis="columns"), "two columns of one name, 'label'"),
        (as_objects, "images as bytes of files or of pixels, and labels as strings or integers, were expected"),
        (encoded, "cannot be written as a table"),
        # Names that differ in case alone are no hindrance: that there are so few rows is found.
        (spark.createDataFrame(rows).selectExpr("*", "1 AS LABEL"), "has no image for the test set"),
    ):
        with refused() as messages:
            lt.prepare(source, image="image", label="label", image_size=8)
        assert message in messages[0]


@pytest.mark.long
def test_rows_in_memory_become_a_data_set(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 8 * 8 * 3), dtype=np.uint8)
    rows = {
        "photo": [image.tobytes() for image in pixels],
        "kind": ["ant"] * 25 + ["bee"] * 15,
        "height": [8] * 40,
        "width": [8] * 40,
        "channels": [3] * 40,
    }
    given = {"image": "photo", "label": "kind", "imb_type": "natural", "test_fraction": 0.2}
    of_arrow = lt.prepare(pa.table(rows), **given)
    of_pandas = lt.prepare(pd.DataFrame(rows), **given)
    more = [image.tobytes() for image in generator.integers(0, 256, (7, 8 * 8 * 3), dtype=np.uint8)]
    others = pd.DataFrame({"photo": more, "height": 8, "width": 8, "channels": 3})
    with_unlabeled = lt.prepare(pa.table(rows), unlabeled=others, **given)
    of_spark = lt.prepare(spark.createDataFrame(pd.DataFrame(rows)), **given)

    assert of_arrow.class_names == ["ant", "bee"] and of_arrow.counts["train"] == [20, 12]
    assert of_pandas.path == of_arrow.path != with_unlabeled.path
    assert with_unlabeled.counts["train"] == [20, 12]
    assert with_unlabeled.rows().where("split = 'unlabeled'").count() == 7
    assert of_spark.counts == of_arrow.counts
    assert of_arrow.manifest.image_shape == (8, 8, 3)
    with refused() as messages:
        lt.prepare(pa.table(rows), image="photo", label="sort")
    assert "the source has no column 'sort': it has photo, kind, height, width, channels" in messages[0]
    # What a task finds is one line too.
    with refused() as messages:
        lt.prepare(pa.table({**rows, "photo": [*rows["photo"][:-1], None]}), **given)
    assert "row 39" in messages[0]


@pytest.mark.long
def test_equal_rows_that_another_thread_writes_meanwhile_stay_where_it_reads_them(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {"image": [bytes([n]) * 12 for n in range(20)], "label": [0, 1] * 10}
    frame = spark.createDataFrame(pd.DataFrame({**rows, "height": 2, "width": 2, "channels": 3}))
    given = {"imb_type": "natural", "test_fraction": 0.2}
    others: list[Path] = []

    def write_beside_another_thread(table: DataFrame, directory: Path) -> None:
        writing.write_parquet(table, directory)
        if not others:
            others.append(directory)
            lt.prepare(frame, **given)
            others.extend((tmp_path / "datasets/tables").glob("*.parquet"))
            (others[1] / "_of_the_other").touch()

    monkeypatch.setattr(dataset, "write_parquet", write_beside_another_thread)
    prepared = lt.prepare(frame, **given)

    assert prepared.counts["train"] == [8, 8]
    assert [*(tmp_path / "datasets/tables").iterdir()] == others[1:]
    assert (others[1] / "_of_the_other").exists(), "it was replaced"


@pytest.mark.long
@pytest.mark.usefixtures("spark", "with_digits")
def test_both_remedies_are_a_few_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits = lt.prepare("digits", imb_factor=0.05, imb_factor_unlabel=0.05, unlabel_size_factor=2)

    features = lt.pretrain(digits, "rot", epochs=2)
    base = lt.train(digits, pretrained_model=features.checkpoint, epochs=2, eval_every=2)
    lines = {str(line.get_label()): list(line.get_xdata()) for line in base.curves().axes[0].lines}
    assert lines == {"test": [2], "train": [1, 2]}, "a line through the epochs that have a value"
    table = lt.pseudo_labels(base, digits)
    quality = lt.label_quality(table)
    assert quality["pseudo_labels"].sum() == quality["unlabeled"].sum() == sum(digits.counts["unlabeled"])
    assert quality["right"].sum() == pytest.approx((quality["recall"] * quality["unlabeled"]).sum())
    with refused() as messages:
        lt.label_quality("none.parquet")
    assert messages == ["beside none.parquet is no file of its quality: give a table that pseudo_labels() wrote"]
    semi = lt.train_semi(digits, pseudo_labels=table, epochs=2)

    assert set(features.result["splits"]["test"]) >= {"accuracy"}
    rows = pq.read_table(table).to_pylist()
    assert 0 < len(rows) <= sum(digits.counts["unlabeled"]) and {row["pseudo_label"] for row in rows} <= set(range(10))
    events = semi.events()
    last = events[(events["kind"] == "class") & (events["split"] == "test") & (events["epoch"] == 2)]
    assert last["pseudo_label_count"].sum() == len(rows)
    assert len({features.path, base.path, semi.path}) == 3
    assert lt.train_semi(digits, epochs=2).path == semi.path, "by default it takes the latest table"
