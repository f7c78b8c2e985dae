"""A data set cut to its first classes (data/sources/first_classes.py)."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.conf.options.data import DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, LABEL
from longtail.data.manifest import read_manifest
from longtail.data.sources.base import Located
from longtail.data.sources.first_classes import FirstClasses
from longtail.data.sources.registry import SOURCES, irrelevant_source, source_of
from longtail.spark_jobs.steps.prepare import prepare
from tests.refusals import refused
from tests.sources import in_directory


def test_first_and_other_classes_are_the_source_s_images_between_them(tmp_path: Path) -> None:
    options = in_directory(
        tmp_path, dataset="digits", num_classes=7, imb_factor_unlabel=1, relevance=0.5, irrelevant_dataset="digits"
    )
    first, others, whole = source_of(options), irrelevant_source(options), SOURCES["digits"]
    assert first.locate(options).class_names == list("0123456")
    for shard in whole.locate(options).shards:
        labels = [source.read(shard)[LABEL].to_numpy() for source in (first, others, whole)]
        assert set(labels[0]) == set(range(7)) and set(labels[1]) == {7, 8, 9}
        np.testing.assert_array_equal(np.sort(np.concatenate(labels[:2])), np.sort(labels[2]))


def test_the_order_from_head_to_tail_is_the_source_s(tmp_path: Path) -> None:
    class Reversed:
        @staticmethod
        def locate(options: DataOptions) -> Located:
            return Located(
                shards=[], origin="made up", class_names=list("abcd"), image_shape=(1, 1, 1), head_to_tail=[3, 1, 2, 0]
            )

    located = FirstClasses(Reversed, 3).locate(in_directory(tmp_path, dataset="digits"))
    assert (located.class_names, located.labels_head_to_tail) == (["a", "b", "c"], [1, 2, 0])


@pytest.mark.parametrize("num_classes", [10, 11])
def test_as_many_classes_as_there_are_leave_none_out(tmp_path: Path, num_classes: int) -> None:
    options = in_directory(tmp_path, dataset="digits", num_classes=num_classes)
    with refused() as messages:
        source_of(options).locate(options)
    assert messages[0] == f"--num_classes {num_classes}: digits has 10: give a smaller number"


def test_a_set_of_the_first_classes_has_images_of_the_others_as_irrelevant_ones(
    spark: SparkSession, tmp_path: Path
) -> None:
    options = PrepareOptions(
        num_classes=7, imb_factor=0.05, n_max=40, imb_factor_unlabel=1, unlabel_size_factor=2, relevance=0.5,
        irrelevant_dataset="digits", data_dir=tmp_path,
    )  # fmt: skip

    set_dir = prepare(spark, options)

    manifest = read_manifest(set_dir)
    # 40 x 20^(-i/6): 40, 24, 14, 8, 5, 3, 2 make 96; relevant are 96 in sevenths, and as many are not.
    assert manifest.counts[TRAIN] == [40, 24, 14, 8, 5, 3, 2]
    assert manifest.counts[UNLABELED] == [13] * 7 and manifest.num_classless == 91
    assert manifest.counts[TEST] == [50] * 7
    rows = pq.read_table(set_dir / "rows" / f"split={UNLABELED}")
    assert rows[HIDDEN_LABEL].null_count == 91 and len(set(rows[ID].to_pylist())) == 182
