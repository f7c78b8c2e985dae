"""A prepared set is whole or not there (spark_jobs/steps/prepare.py), whatever happens meanwhile.

The source here is our own, in the place of the digits: 20 training and 5 test images of two classes, all images alike.
"""

import errno
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.manifest import read_manifest
from longtail.data.sources.base import Located, Shard, source_batch
from longtail.data.sources.registry import SOURCES
from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir


def options_of(data_dir: Path, *, imb_factor: float = 1.0) -> PrepareOptions:
    return resolve_options(PrepareOptions, {"data_dir": data_dir, "n_max": 20, "imb_factor": imb_factor})


def parquet_files(set_dir: Path) -> list[Path]:
    return sorted((set_dir / "rows").rglob("*.parquet"))


def tiny_source(refusal: str | OSError = "", *, marker: Path | None = None) -> SimpleNamespace:
    """With a refusal, a shard cannot be read: never, or with a marker from the second reading on."""

    def locate(options: DataOptions) -> Located:
        shards = [Shard(options.data_dir, "train", 0, 0), Shard(options.data_dir, "test", 0, 40)]
        return Located(shards=shards, origin="made up", class_names=["a", "b"], image_shape=(4, 4, 1))

    def read(shard: Shard) -> pa.RecordBatch:
        if refusal and shard.split == "train":
            if marker is None or marker.exists():
                raise refusal if isinstance(refusal, OSError) else UserError(refusal)
            marker.touch()
        labels = np.repeat([0, 1], 20 if shard.split == "train" else 5)
        return source_batch(shard, np.full((len(labels), 4, 4, 1), 7, np.uint8), labels)

    return SimpleNamespace(locate=locate, read=read)


def test_images_are_stored_without_a_dictionary_even_if_they_repeat(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "digits", tiny_source())

    (train, _) = sorted(parquet_files(prepare(spark, options_of(tmp_path))), reverse=True)

    columns = pq.ParquetFile(train).metadata.row_group(0)
    by_name = {columns.column(i).path_in_schema: columns.column(i) for i in range(4)}
    assert by_name["label"].has_dictionary_page, "what may have one has one"
    assert not by_name["image"].has_dictionary_page
    assert not [encoding for encoding in by_name["image"].encodings if "DICTIONARY" in encoding]


def test_a_failure_in_the_middle_leaves_nothing_and_a_later_prepare_is_whole(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, marker = tmp_path / "data", tmp_path / "read once"
    options = options_of(data_dir, imb_factor=0.5)
    # Counting the classes reads the shard once; the writing comes after.
    monkeypatch.setitem(SOURCES, "digits", tiny_source("images.gz is damaged: delete it", marker=marker))

    with pytest.raises(Exception, match="UserError") as error:
        prepare(spark, options)

    assert marker.exists(), "it failed before anything was written"
    assert user_message(error.value) == "images.gz is damaged: delete it"
    assert list((data_dir / "prepared").iterdir()) == []
    monkeypatch.setitem(SOURCES, "digits", tiny_source())
    assert read_manifest(prepare(spark, options)).counts["train"] == [20, 10]


def test_a_shard_that_cannot_be_read_at_all_is_said_in_its_own_words(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "digits", tiny_source("labels.gz is damaged: get it again"))

    with pytest.raises(Exception, match="UserError") as error:
        prepare(spark, options_of(tmp_path))

    assert user_message(error.value) == "labels.gz is damaged: get it again"
    assert list(tmp_path.iterdir()) == []


def test_exact_copies_across_parts_are_told_and_kept_in_the_manifest(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 40 training and 10 test images are the same, of which 40 labelled ones are taken."""
    monkeypatch.setitem(SOURCES, "digits", tiny_source())
    manifest = read_manifest(prepare(spark, options_of(tmp_path)))
    assert manifest.duplicates == [{"splits": "test+train", "num_contents": 1, "num_images": 50}]
    assert (manifest.channel_mean, manifest.channel_std) == ([7 / 255], [0.0])
    assert "exact duplicates across test+train: 1 images, 50 rows" in capsys.readouterr().out


@pytest.mark.long
def test_what_a_killed_prepare_left_is_never_taken_for_whole(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "digits", tiny_source())
    options = options_of(tmp_path)
    whole = prepare(spark, options)
    half = whole.with_name(f".{whole.name}.longtail-{2 * '0123456789abcdef'}")
    whole.rename(half)  # killed between the last row and the renaming
    (half / "manifest.json").unlink()
    parquet_files(half)[0].unlink()

    assert not prepared_set_dir(options).exists()
    assert prepare(spark, options) == whole
    assert len(parquet_files(whole)) == 2
    assert read_manifest(whole).counts["test"] == [5, 5]
    assert not half.exists()


def test_a_directory_without_a_manifest_is_refused_and_left_alone(spark: SparkSession, tmp_path: Path) -> None:
    options = options_of(tmp_path)
    rows = prepared_set_dir(options) / "rows" / "split=train"
    rows.mkdir(parents=True)

    with pytest.raises(UserError, match=r"is not a prepared data set: it has no manifest\.json"):
        prepare(spark, options)

    assert rows.is_dir()


def test_a_place_that_cannot_be_written_is_said(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "digits", tiny_source())
    (tmp_path / "prepared").write_text("a file in the way")

    with pytest.raises(UserError, match=str(tmp_path / "prepared")):
        prepare(spark, options_of(tmp_path))


def test_a_full_disk_is_said_and_nothing_is_left(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing stage reads the shards a second time: there a task meets what a full disk raises."""
    monkeypatch.setitem(
        SOURCES, "digits", tiny_source(OSError(errno.ENOSPC, "No space left on device"), marker=tmp_path / "m")
    )
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; free some or choose another"):
        prepare(spark, options_of(tmp_path))
    assert list((tmp_path / "prepared").iterdir()) == []


def test_two_at_the_same_time_make_one_whole_set(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "digits", tiny_source())
    options = options_of(tmp_path)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(prepare(spark, options))) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == [prepared_set_dir(options)] * 2
    assert list((tmp_path / "prepared").iterdir()) == [made[0]]
    assert len(parquet_files(made[0])) == 2
    assert read_manifest(made[0]).counts["train"] == [20, 20]
