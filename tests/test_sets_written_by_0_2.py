"""A prepared set and a table of pseudo-labels that version 0.2 wrote (tests/written_by_0.2/) are read as they were."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits

from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, PREPARED_SCHEMA
from longtail.data.loader import load_hidden_labels, load_split
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import (
    FORMAT_VERSION,
    FORMAT_VERSION_KEY,
    load_probabilities,
    load_pseudo_labels,
    load_round,
)
from longtail.data.stream import open_split, read_images
from longtail.data.verification import verify_set
from longtail.spark_jobs.frames.reading import read_prepared
from tests.conftest import REPOSITORY
from tests.refusals import refused

WRITTEN = REPOSITORY / "tests" / "written_by_0.2"
PREPARED, PSEUDO_LABELS = WRITTEN / "prepared_set", WRITTEN / "pseudo_labels.parquet"
SPARK_SCHEMA_KEY = b"org.apache.spark.sql.parquet.row.metadata"


def source_labels() -> np.ndarray:
    """(1797,) labels of scikit-learn's digits by id: the first fifty of each class, then the others."""
    labels = load_digits().target
    rank = np.array([(labels[:index] == label).sum() for index, label in enumerate(labels)])
    return np.concatenate([labels[rank < 50], labels[rank >= 50]])


def test_the_manifest_is_read() -> None:
    manifest = read_manifest(PREPARED)
    assert (manifest.format_version, manifest.dataset, manifest.encoding) == (1, "digits", "raw")
    assert manifest.class_names == list("0123456789")
    assert manifest.counts[TRAIN] == [6, 5, 4, 4, 3, 2, 2, 1, 1, 1]
    assert manifest.counts[VAL] == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert (manifest.counts[UNLABELED], manifest.counts[TEST]) == ([2] * 10, [50] * 10)
    assert manifest.checksums[TRAIN] == "C3DE39DF8010B874"
    assert manifest.channel_mean == [pytest.approx(149_179 / (29 * 64 * 255))]


def test_the_options_of_its_manifest_are_still_options() -> None:
    options = PrepareOptions.model_validate(read_manifest(PREPARED).parameters)
    assert options.set_parameters() == read_manifest(PREPARED).parameters


@pytest.mark.parametrize(
    ("split", "first_ids", "pixel_sum"),
    [
        (TRAIN, [512, 659], 149_179),
        (VAL, [542, 676], 56_288),
        (UNLABELED, [516, 651], 100_473),
        (TEST, [0, 1], 2_516_527),
    ],
)
def test_images_and_labels_are_read(split: str, first_ids: list[int], pixel_sum: int) -> None:
    manifest = read_manifest(PREPARED)
    arrays = load_split(PREPARED, split, manifest)
    assert (arrays.ids[:2].tolist(), int(arrays.images.sum())) == (first_ids, pixel_sum)
    labels = load_hidden_labels(PREPARED)[1] if arrays.labels is None else arrays.labels
    assert np.array_equal(labels, source_labels()[arrays.ids])
    streamed = open_split(PREPARED, split, manifest)
    (images,) = read_images(streamed.images, [np.argsort(streamed.ids)])
    assert np.array_equal(images, arrays.images)


def test_its_ids_and_counts_are_verified() -> None:
    verify_set(PREPARED, read_manifest(PREPARED))


def test_spark_reads_the_rows(spark: SparkSession) -> None:
    rows = read_prepared(spark, PREPARED)
    assert set(rows.columns) == set(PREPARED_SCHEMA.names)
    assert {row.split: row["count"] for row in rows.groupBy("split").count().collect()} == {
        TRAIN: 29, VAL: 11, UNLABELED: 20, TEST: 500,
    }  # fmt: skip


def test_pseudo_labels_are_read() -> None:
    ids, labels, confidences = load_pseudo_labels(PSEUDO_LABELS)
    assert ids.tolist() == load_split(PREPARED, UNLABELED, read_manifest(PREPARED)).ids.tolist()
    assert labels.tolist() == [7, 0, 0, 0, 7, 7, 7, 0, 0, 0, 7, 7, 7, 7, 7, 7, 0, 7, 0, 7]
    assert confidences[:2] == pytest.approx([0.4053293, 0.6597924])
    probabilities = load_probabilities(PSEUDO_LABELS)
    assert np.array_equal(probabilities.argmax(axis=1), labels)
    assert np.array_equal(probabilities.max(axis=1), confidences)
    assert load_round(PSEUDO_LABELS) == 1


def test_pseudo_labels_of_a_newer_format_are_refused(tmp_path: Path) -> None:
    table = shutil.copytree(PSEUDO_LABELS, tmp_path / "table")
    for file in table.glob("*.parquet"):
        rows = pq.read_table(file)
        schema = json.loads(rows.schema.metadata[SPARK_SCHEMA_KEY])
        (of_id,) = [field for field in schema["fields"] if field["name"] == ID]
        assert of_id["metadata"] == {FORMAT_VERSION_KEY: FORMAT_VERSION}
        of_id["metadata"][FORMAT_VERSION_KEY] += 1
        pq.write_table(
            rows.replace_schema_metadata({SPARK_SCHEMA_KEY: json.dumps(schema)}), file, write_page_checksum=True
        )
    with refused() as messages:
        load_pseudo_labels(table)
    assert f"{table} has the format version 2, this version of Longtail reads up to 1: upgrade longtail" in messages[0]


def test_pseudo_labels_that_another_program_wrote_need_no_version(tmp_path: Path) -> None:
    rows = pq.read_table(PSEUDO_LABELS).replace_schema_metadata(None)
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    assert load_round(tmp_path / "labels.parquet") == 1
