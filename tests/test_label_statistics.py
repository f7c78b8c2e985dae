"""Statistics of labels alone (spark_jobs/frames/label_statistics.py): one pass, exact counts, skew by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import StatsOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL
from longtail.spark_jobs.frames.label_statistics import QUANTILES, count_labels, with_confidence_quantiles
from longtail.spark_jobs.stats import main
from longtail.spark_jobs.steps.pseudo_label_statistics import pseudo_label_statistics
from longtail.spark_jobs.steps.stats import stats_of_labels
from tests.frames import frame_of
from tests.prepared_set import ROW_SCHEMA, write_manifest, write_split
from tests.refusals import refused

ROWS = "id long, label int, hidden_label int, split string"


def in_partitions(spark: SparkSession, parts: list[list[tuple[int | None, int | None, str]]]) -> DataFrame:
    """A table whose partitions hold these (label, hidden label, split)."""
    flat = [(place, row) for place, part in enumerate(parts) for row in part]
    schema = "place int, label int, hidden_label int, split string"
    frame = frame_of(spark, [(place, *row) for place, row in flat], schema)
    return frame.repartitionByRange(len(parts), "place").drop("place")


def test_each_class_of_each_split_is_counted_and_each_partition_compared(spark: SparkSession) -> None:
    """train: class 0 4 times, class 1 4 times. One partition of 4 has 3 and 1, the other 1 and 3: both 1/4 off.

    test: 2 and 1; one partition has one of each (|1/2 - 2/3|), the other one of class 0 (|1 - 2/3|).
    """
    train, test = [(0, None, "train"), (1, None, "train")], [(0, None, "test"), (1, None, "test")]
    hidden = [(None, 1, "unlabeled"), (None, None, "unlabeled")]
    frame = in_partitions(
        spark, [[train[0]] * 3 + [train[1]] + test + hidden, [train[0]] + [train[1]] * 3 + [test[0]] + hidden[:1]]
    )
    found = count_labels(frame)
    assert sorted(found.class_counts) == [
        ("test", 0, 2), ("test", 1, 1), ("train", 0, 4), ("train", 1, 4), ("unlabeled", -1, 1), ("unlabeled", 1, 2),
    ]  # fmt: skip
    skew = {(split, partition): (images, value) for split, partition, images, value in found.skew}
    assert [images for images, _ in skew.values()] == [2, 1, 4, 4, 2, 1]
    assert [value for _, value in skew.values()] == pytest.approx([1 / 6, 1 / 3, 1 / 4, 1 / 4, 1 / 6, 1 / 3])


def test_partitions_of_one_class_each_are_as_skewed_as_can_be(spark: SparkSession) -> None:
    frame = in_partitions(spark, [[(label, None, "train")] * 5 for label in range(4)])
    assert [value for *_, value in count_labels(frame).skew] == pytest.approx([3 / 4] * 4)


def test_one_pass_over_the_rows_gives_exact_counts_of_thousands_of_classes(spark: SparkSession) -> None:
    """Every row of the source is made once, although counts and skew are asked for apart."""
    made = spark.sparkContext.accumulator(0)

    def counted(batches):
        for batch in batches:
            made.add(batch.num_rows)
            yield batch

    rows = spark.range(0, 200_000, 1, 4).selectExpr(
        "id", "cast(pmod(id * id, 8142) as int) label", "cast(null as int) hidden_label", "'train' split"
    )
    found = count_labels(rows.mapInArrow(counted, ROWS))
    ids = np.arange(200_000)
    expected = np.bincount(ids * ids % 8142, minlength=8142)
    got = np.zeros(8142, np.int64)
    for _, label, count in found.class_counts:
        got[label] = count
    assert (got == expected).all()
    assert made.value == 200_000
    parts = [np.bincount(part * part % 8142, minlength=8142) / 50_000 for part in np.split(ids, 4)]
    by_hand = [float(np.abs(part - expected / 200_000).sum() / 2) for part in parts]
    assert [value for *_, value in found.skew] == pytest.approx(by_hand)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.parquet"


def label_stats(spark: SparkSession, table: Path, labels: Any, **values: object) -> list[dict[str, Any]]:
    pq.write_table(pa.table({"kind": labels}), table)
    given = {"labels": table, "label_column": "kind", "data_dir": table.parent, **values}
    output_dir = stats_of_labels(spark, resolve_options(StatsOptions, given), table=table)
    return pq.read_table(output_dir / "class_counts.parquet").to_pylist()


def test_the_names_of_any_table_are_counted(spark: SparkSession, table: Path) -> None:
    rows = label_stats(spark, table, ["ox", "ant", "ox", "ox"])
    assert [(row["class_name"], row["count"], row["share"]) for row in rows] == [("ant", 1, 0.25), ("ox", 3, 0.75)]
    summary = json.loads((table.parent / "statistics" / "labels-table" / "summary.json").read_text())
    assert (summary["train"]["num_images"], summary["train"]["rho"]) == (4, 3)


def test_more_classes_than_a_screen_takes_are_told_of_by_number(
    spark: SparkSession, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"label": list(range(101)) * 2}), table)
    main(["--labels", str(table), "--data_dir", str(table.parent)])
    said = capsys.readouterr().out
    assert "labels-table: 101 classes, each in class_counts.parquet" in said
    assert "train: 202 images, rho 1.00, normalised entropy 1.000, Gini 0.000" in said
    assert "│" not in said


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([0, None, 1], "has 1 rows whose kind is null or -1"),
        (["a", None], "has 1 rows whose kind is null or -1"),
        ([0.5], "has no column 'kind' of integers or strings: it has kind (double); give --label_column"),
        (pa.array([], pa.int32()), "has no row"),
    ],
)
def test_labels_that_cannot_be_counted_are_refused(spark: SparkSession, table: Path, labels: Any, named: str) -> None:
    with refused() as messages:
        label_stats(spark, table, labels)
    assert str(table) in messages[0] and named in messages[0]


def test_a_table_that_is_none_is_refused_by_name(spark: SparkSession, table: Path) -> None:
    table.write_text("label\n1\n")
    with refused() as messages:
        stats_of_labels(spark, resolve_options(StatsOptions, {"labels": table}), table=table)
    assert f"{table} is damaged" in messages[0]


def test_confidences_of_a_class_are_summed_up_by_their_quantiles(spark: SparkSession) -> None:
    """Of 0.01, 0.02, ... 1.00 the fifth, 25th, 50th, 75th and 95th; of one value, that one."""
    rows = [(0, i / 100) for i in range(100, 0, -1)] + [(2, 0.5)]
    frame = frame_of(spark, rows, "pseudo_label int, confidence float")
    found = with_confidence_quantiles(frame, num_classes=3).collect()
    assert [(row.class_id, row.predicted) for row in found] == [(0, 100), (1, 0), (2, 1)]
    assert found[0].confidence_quantiles == pytest.approx(list(QUANTILES))
    assert found[1].confidence_quantiles is None
    assert found[2].confidence_quantiles == [0.5] * 5


def written_set(set_dir: Path, hidden: list[int | None]) -> Path:
    ids = list(range(len(hidden)))
    columns = {ID: ids, IMAGE: [b"x"] * len(ids), LABEL: [None] * len(ids), HIDDEN_LABEL: hidden}
    write_split(set_dir, UNLABELED, pa.table(columns, schema=ROW_SCHEMA))
    known = [hidden.count(label) for label in range(3)]
    write_manifest(set_dir, {UNLABELED: known}, image_shape=(1, 1, 1), num_classless=hidden.count(None))
    return set_dir


def pseudo_table(path: Path) -> Path:
    columns = {ID: list(range(6)), "pseudo_label": [0, 0, 0, 2, 2, 2], "confidence": [0.9, 0.8, 0.7, 1.0, 1.0, 0.4]}
    path.mkdir()
    pq.write_table(pa.table(columns), path / "part.parquet")
    return path


def test_pseudo_labels_are_summed_up_by_class_with_precision_and_recall(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class 0: two of three are right, of four that there are. Class 1 is never said, class 2 three times."""
    set_dir = written_set(tmp_path / "set", [0, 0, 1, 0, 0, 2])
    pseudo_label_statistics(spark, pseudo_table(tmp_path / "p"), set_dir=set_dir, output_dir=tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())
    assert rows == pq.read_table(tmp_path / "out" / "pseudo_labels.parquet").to_pylist()
    assert [(row["predicted"], row["support"]) for row in rows] == [(3, 4), (0, 1), (3, 1)]
    assert [row["precision"] for row in rows] == [2 / 3, None, 1 / 3]
    assert [row["recall"] for row in rows] == [1 / 2, 0, 1]
    assert [row["confidence_0.5"] for row in rows] == [pytest.approx(0.8), None, 1.0]
    assert [row["confidence_0.05"] for row in rows] == [pytest.approx(0.7), None, pytest.approx(0.4)]
    shown = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["class", "0", "3", "0.700", "0.800", "0.900", "66.7", "50.0"] in shown


def test_where_nobody_knows_the_truth_there_is_no_precision(spark: SparkSession, tmp_path: Path) -> None:
    set_dir = written_set(tmp_path / "set", [None] * 6)
    pseudo_label_statistics(spark, pseudo_table(tmp_path / "p"), set_dir=set_dir, output_dir=tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())
    assert [row["predicted"] for row in rows] == [3, 0, 3]
    assert {row[name] for row in rows for name in ("support", "precision", "recall")} == {None}


def test_another_table_is_not_taken_for_pseudo_labels(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "t.parquet")
    with refused() as messages:
        pseudo_label_statistics(spark, tmp_path / "t.parquet", set_dir=tmp_path, output_dir=tmp_path)
    assert "has no column confidence, pseudo_label: name a table of gen_pseudolabels" in messages[0]
