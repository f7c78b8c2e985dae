"""The statistics of a prepared set (spark_jobs/steps/stats.py), against counts and formulas worked out here.

Digits with the defaults: 40, 28, 20, 14, 10, 7, 5, 3, 2, 2 labelled images (131), and 50 test images a class.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import StatsOptions
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.display.class_plot import draw_head_to_tail
from longtail.spark_jobs.display.label_statistics import duplicate_lines
from longtail.spark_jobs.frames.image_statistics import channel_statistics, with_duplicates
from longtail.spark_jobs.stats import main
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.stats import stats, stats_of_labels
from tests.frames import frame_of
from tests.refusals import refused

LABELLED = [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
# Of 131 unlabeled images at 1/rho_U = 0.1, int(13 * 0.1^(i/9)) is 13, 10, 7, 6, 4, 3, 2, 2, 1, 1 (49); times 131 / 49.
UNLABELED = [34, 26, 18, 16, 10, 8, 5, 5, 2, 2]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> StatsOptions:
    values = {"data_dir": tmp_path_factory.mktemp("data"), "imb_factor_unlabel": 0.1, "unlabel_size_factor": 1.0}
    return resolve_options(StatsOptions, values)


@pytest.fixture(scope="module")
def set_dir(spark: SparkSession, options: StatsOptions) -> Path:
    return prepare(spark, options)


@pytest.fixture(scope="module")
def output_dir(spark: SparkSession, options: StatsOptions, set_dir: Path) -> Path:
    return stats(spark, options, set_dir=set_dir)


@pytest.fixture(scope="module")
def class_counts(output_dir: Path) -> list[dict[str, Any]]:
    return pq.read_table(output_dir / "class_counts.parquet").to_pylist()


@pytest.fixture(scope="module")
def summary(output_dir: Path) -> dict[str, dict[str, Any]]:
    return json.loads((output_dir / "summary.json").read_text())


def partitions_of(of_split: dict[str, Any]) -> dict[str, Any]:
    """What tests/test_label_statistics.py is about."""
    return {name: of_split[name] for name in ("num_partitions", "mean_label_skew", "max_label_skew")}


def of_split(rows: list[dict[str, Any]], split: str, name: str) -> list[Any]:
    return [row[name] for row in rows if row["split"] == split]


def test_results_lie_under_the_name_of_the_set(output_dir: Path, options: StatsOptions, set_dir: Path) -> None:
    assert output_dir == options.data_dir / "statistics" / set_dir.name
    assert sorted(path.name for path in output_dir.iterdir()) == [
        "class_counts.parquet",
        "head_to_tail.png",
        "images.json",
        "partitions.parquet",
        "summary.json",
    ]


@pytest.mark.parametrize(
    ("split", "counts"),
    [("train", LABELLED), ("unlabeled", UNLABELED), ("test", [50] * 10), ("val", [0] * 10)],
)
def test_every_class_of_every_split_has_its_count(
    class_counts: list[dict[str, Any]], split: str, counts: list[int]
) -> None:
    assert of_split(class_counts, split, "class_id") == list(range(10))
    assert of_split(class_counts, split, "class_name") == list("0123456789")
    assert of_split(class_counts, split, "count") == counts


def test_shares_are_of_the_split_and_unknown_in_an_empty_one(class_counts: list[dict[str, Any]]) -> None:
    assert of_split(class_counts, "train", "share") == pytest.approx([n / 131 for n in LABELLED], rel=1e-12)
    assert of_split(class_counts, "test", "share") == pytest.approx([0.1] * 10, rel=1e-12)
    assert of_split(class_counts, "val", "share") == [None] * 10


def test_effective_numbers_are_sums_of_powers_of_beta(class_counts: list[dict[str, Any]]) -> None:
    expected = [math.fsum(0.9999**k for k in range(n)) for n in LABELLED]

    assert of_split(class_counts, "train", "effective_number") == pytest.approx(expected, rel=1e-9)
    assert of_split(class_counts, "val", "effective_number") == [0] * 10


def test_shot_groups_go_by_the_labelled_images_in_every_split(class_counts: list[dict[str, Any]]) -> None:
    """The digits' thresholds: more than 20 is many, fewer than 5 is few."""
    groups = ["many"] * 2 + ["medium"] * 5 + ["few"] * 3

    for split in ("train", "unlabeled", "test", "val"):
        assert of_split(class_counts, split, "shot_group") == groups


@pytest.mark.parametrize(("split", "counts"), [("train", LABELLED), ("unlabeled", UNLABELED)])
def test_a_long_tail_is_summed_up(summary: dict[str, dict[str, Any]], split: str, counts: list[int]) -> None:
    total = sum(counts)
    entropy = math.fsum(n / total * math.log(total / n) for n in counts)
    gini = sum(abs(a - b) for a in counts for b in counts) / (2 * len(counts) * total)

    assert summary[split]["num_images"] == total
    assert summary[split]["rho"] == counts[0] / counts[-1]
    assert summary[split]["normalised_entropy"] == pytest.approx(entropy / math.log(10), rel=1e-12)
    assert summary[split]["gini"] == pytest.approx(gini, rel=1e-12)


def test_a_balanced_split_has_rho_1_entropy_1_and_gini_0(summary: dict[str, dict[str, Any]]) -> None:
    assert summary["test"] == {
        "num_images": 500,
        "rho": 1,
        "normalised_entropy": pytest.approx(1, rel=1e-12),
        "gini": pytest.approx(0, abs=1e-12),
        **partitions_of(summary["test"]),
    }


def test_an_empty_split_has_no_scores(summary: dict[str, dict[str, Any]]) -> None:
    assert summary["val"] == {
        "num_images": 0, "rho": None, "normalised_entropy": None, "gini": None,
        "num_partitions": 0, "mean_label_skew": None, "max_label_skew": None,
    }  # fmt: skip


def test_channel_statistics_are_those_of_the_loaded_pixels(output_dir: Path, set_dir: Path) -> None:
    found = json.loads((output_dir / "images.json").read_text())["channels"]
    for split in ("train", "unlabeled", "test"):
        pixels = load_split(set_dir, split, read_manifest(set_dir)).images.astype(np.float64) / 255
        assert found[split]["mean"] == pytest.approx([pixels.mean()], rel=1e-12)
        assert found[split]["std"] == pytest.approx([pixels.std()], rel=1e-9)
    assert found["val"] == {"mean": [], "std": []}


def test_each_class_has_its_channel_statistics(class_counts: list[dict[str, Any]], set_dir: Path) -> None:
    train = load_split(set_dir, "train", read_manifest(set_dir))
    means = [train.images[train.labels == label].mean() / 255 for label in range(10)]
    assert of_split(class_counts, "train", "channel_mean") == [[pytest.approx(mean, rel=1e-12)] for mean in means]
    assert of_split(class_counts, "val", "channel_mean") == [None] * 10


def test_the_manifest_has_the_channel_statistics_of_the_training_images(output_dir: Path, set_dir: Path) -> None:
    found = json.loads((output_dir / "images.json").read_text())["channels"]["train"]
    manifest = read_manifest(set_dir)
    assert {"mean": manifest.channel_mean, "std": manifest.channel_std} == found


def test_the_plot_is_a_picture_with_the_curve_of_each_split(output_dir: Path, tmp_path: Path) -> None:
    with Image.open(output_dir / "head_to_tail.png") as picture:
        assert picture.format == "PNG"
        with_unlabeled = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    draw_head_to_tail({"train": LABELLED}, tmp_path / "one.png", title="one")
    with Image.open(tmp_path / "one.png") as picture:
        alone = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    second_colour = (255, 127, 14)  # of the default cycle
    assert (with_unlabeled == second_colour).all(axis=1).any() and not (alone == second_colour).all(axis=1).any()


def test_channel_statistics_of_three_channels_by_hand() -> None:
    """Pixels 0, 255; 51, 51; 0, 51: means 0.5, 0.2, 0.1 and deviations 0.5, 0, 0.1."""
    sums = {0: (2, 255, 255**2), 1: (2, 102, 2 * 51**2), 2: (2, 51, 51**2)}
    found = channel_statistics(sums)
    assert found.mean == pytest.approx([0.5, 0.2, 0.1]) and found.std == pytest.approx([0.5, 0, 0.1])


def test_exact_duplicates_are_counted_by_the_parts_that_they_lie_in(spark: SparkSession) -> None:
    rows = [(i, bytearray(image), split) for i, (image, split) in enumerate([
        (b"a", "train"), (b"a", "test"), (b"a", "train"),
        (b"b", "train"), (b"b", "train"),
        (b"c", "test"), (b"d", "train"), (b"e", "unlabeled"),
        (b"f", "unlabeled"), (b"f", "test"), (b"g", "test"), (b"g", "unlabeled"),
    ])]  # fmt: skip
    images = frame_of(spark, rows, "id long, image binary, split string")
    found = [row.asDict() for row in with_duplicates(images, F.col("image")).collect()]
    assert found == [
        {"splits": "test+train", "num_contents": 1, "num_images": 3},
        {"splits": "test+unlabeled", "num_contents": 2, "num_images": 4},
        {"splits": "train", "num_contents": 1, "num_images": 2},
    ]
    assert duplicate_lines(found) == [
        "exact duplicates across test+train: 1 images, 3 rows",
        "exact duplicates across test+unlabeled: 2 images, 4 rows",
        "exact duplicates within train: 1 images, 2 rows",
    ]


def test_main_prints_each_class_and_the_rho_of_each_split(
    spark: SparkSession, options: StatsOptions, output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--imb_factor_unlabel", "0.1", "--unlabel_size_factor", "1"]

    main(["--data_dir", str(options.data_dir), *flags])

    said = capsys.readouterr().out
    assert "train: 131 images, rho 20.00, " in said
    assert "unlabeled: 126 images, rho 17.00, " in said
    assert "test: 500 images, rho 1.00, " in said
    assert "val: " not in said
    cells = [line.replace("│", " ").split() for line in said.splitlines()]
    assert ["0", "many", "40", "34", "50", "30.5"] in cells
    assert ["9", "few", "2", "2", "50", "1.5"] in cells
    assert f"statistics: {output_dir}" in said


def test_counts_come_from_the_rows_and_not_from_the_manifest(
    spark: SparkSession, options: StatsOptions, set_dir: Path, output_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / set_dir.name
    for split in ("train", "test"):  # the unlabeled part is left out, the manifest still tells of it
        (copy / "rows" / f"split={split}").mkdir(parents=True)
        for file in (set_dir / "rows" / f"split={split}").glob("*.parquet"):
            (copy / "rows" / f"split={split}" / file.name).write_bytes(file.read_bytes())
    (copy / "manifest.json").write_bytes((set_dir / "manifest.json").read_bytes())

    found = stats(spark, options.model_copy(update={"data_dir": tmp_path}), set_dir=copy)

    summary = json.loads((found / "summary.json").read_text())
    assert (summary["train"]["num_images"], summary["unlabeled"]["num_images"]) == (131, 0)


def test_a_flipped_bit_in_a_table_is_refused_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"label": list(range(500))}), file, compression="none", write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[1000] ^= 4
    file.write_bytes(content)
    with pytest.raises(Exception, match="FAILED_READ_FILE") as caught:
        stats_of_labels(spark, StatsOptions(data_dir=tmp_path, labels=file), table=file)
    message = f"{file} is damaged or cannot be read: write it again, with the job that wrote it"
    assert user_message(caught.value) == message


@pytest.mark.parametrize("name", ["labels", "pseudo_labels"])
def test_a_pickle_of_pseudo_labels_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / "ours.pickle").touch()
    with refused() as messages:
        resolve_options(StatsOptions, {name: tmp_path / "ours.pickle"})
    assert messages[0].endswith("ours.pickle: a table was expected: gen_pseudolabels writes one beside a pickle")
