"""Prepared sets as Delta tables: the same files, read by every reader, and what the log leaves out is left out."""

import json
import shutil
import sys
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data import delta
from longtail.data.contract import ROWS_DIRECTORY
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.stream import open_split
from longtail.spark_jobs.frames.reading import read_prepared
from longtail.spark_jobs.prepare import main
from longtail.spark_jobs.steps.prepare import prepare
from tests.frames import split_counts
from tests.refusals import refused


def files_below(directory: Path) -> dict[Path, int]:
    """Each file with the time of its last change."""
    return {file: file.stat().st_mtime_ns for file in directory.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def set_dir(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet set that `prepare --format delta` found, twice, and made a Delta table."""
    options = resolve_options(PrepareOptions, {"data_dir": tmp_path_factory.mktemp("data")})
    set_dir = prepare(spark, options)
    before = files_below(set_dir)
    assert not delta.is_delta(set_dir / ROWS_DIRECTORY)
    for _ in range(2):
        main(["--data_dir", str(options.data_dir), "--format", "delta"])
    assert before.items() < files_below(set_dir).items(), "nothing is prepared again"
    return set_dir


def test_a_set_is_a_delta_table_of_the_files_that_spark_wrote(set_dir: Path) -> None:
    rows = set_dir / ROWS_DIRECTORY
    table = deltalake.DeltaTable(str(rows))
    assert table.metadata().partition_columns == ["split"]
    assert sorted(map(Path, table.file_uris())) == sorted(rows.rglob("*.parquet"))
    fields = {field.name: field.type.type for field in table.schema().fields}
    assert fields == {
        "id": "long", "image": "binary", "label": "integer", "hidden_label": "integer", "split": "string",
    }  # fmt: skip
    with_counts = table.get_add_actions(flatten=True)
    assert sum(pa.table(with_counts)["num_records"].to_pylist()) == 131 + 500


def test_a_delta_set_is_read_like_a_parquet_set(spark: SparkSession, set_dir: Path) -> None:
    manifest = read_manifest(set_dir)
    assert load_split(set_dir, TRAIN, manifest).labels.tolist().count(0) == 40
    assert len(open_split(set_dir, TEST, manifest).ids) == 500
    counted = split_counts(read_prepared(spark, set_dir))
    assert counted["train", 0] == 40 and counted["test", 9] == 50 and len(counted) == 20


@pytest.mark.long
def test_a_new_set_is_a_delta_table_at_once_and_says_nothing_else(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_dir = prepare(spark, resolve_options(PrepareOptions, {"data_dir": tmp_path}), as_delta=True)
    assert deltalake.DeltaTable(str(set_dir / ROWS_DIRECTORY)).version() == 0
    assert capfd.readouterr().err == ""


def test_every_reader_passes_over_files_that_the_log_gave_up(
    spark: SparkSession, set_dir: Path, tmp_path: Path
) -> None:
    """Compaction writes new files and leaves the old ones where they are."""
    set_dir = Path(shutil.copytree(set_dir, tmp_path / "set"))
    rows, manifest = set_dir / ROWS_DIRECTORY, read_manifest(set_dir)
    before = load_split(set_dir, TRAIN, manifest)
    half = read_prepared(spark, set_dir).where("split = 'train'").drop("split").toPandas()
    # Two files take the place of one, as after a rewriting of the table.
    table = pa.Table.from_pandas(half.assign(split="train"), preserve_index=False)
    deltalake.write_deltalake(
        str(rows), table.cast(pa.schema(deltalake.DeltaTable(str(rows)).schema().to_arrow())), mode="overwrite",
        predicate="split = 'train'", partition_by=["split"],
    )  # fmt: skip
    assert len(list((rows / "split=train").glob("*.parquet"))) == 2
    after = load_split(set_dir, TRAIN, manifest)
    assert after.ids.tolist() == before.ids.tolist() and (after.images == before.images).all()
    assert sorted(open_split(set_dir, TRAIN, manifest).ids.tolist()) == before.ids.tolist()
    assert read_prepared(spark, set_dir).where("split = 'train'").count() == 131


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda log: log.write_text("{"), "has a Delta log that cannot be read"),
        (lambda log: log.write_text(_with_feature(log, "deletionVectors")), "the Delta features deletionVectors"),
        (lambda log: log.write_text(_with_column_mapping(log)), "has a Delta column mapping"),
    ],
    ids=["damaged", "deletion vectors", "column mapping"],
)
def test_a_log_that_asks_for_more_than_its_files_is_refused(tmp_path: Path, damage: object, named: str) -> None:
    deltalake.write_deltalake(str(tmp_path), pa.table({"id": [1]}))
    damage(tmp_path / "_delta_log" / f"{0:020}.json")
    with refused() as messages:
        delta.delta_files(tmp_path)
    assert str(tmp_path) in messages[0] and named in messages[0]


def _with_feature(log: Path, feature: str) -> str:
    protocol = {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature],
    }  # fmt: skip
    return "\n".join(
        json.dumps({"protocol": protocol}) if "protocol" in line else line for line in log.read_text().splitlines()
    )


def _with_column_mapping(log: Path) -> str:
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            names = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "column-1"}
            field = {"name": "id", "type": "long", "nullable": True, "metadata": names}
            action["metaData"]["schemaString"] = json.dumps({"type": "struct", "fields": [field]})
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
    return "\n".join(map(json.dumps, actions))


def test_without_the_extra_a_delta_set_is_refused_with_the_mend(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with refused() as messages:
        prepare(spark, resolve_options(PrepareOptions, {"data_dir": tmp_path}), as_delta=True)
    assert "pip install 'longtail[delta]'" in messages[0]
    assert list(tmp_path.iterdir()) == []
