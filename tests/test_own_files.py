"""A set of the user's own files is prepared again when these change, and its runs are others then."""

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.data import DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.manifest import read_manifest
from longtail.data.sources.own_files import state_of_own_files
from longtail.spark_jobs.steps.prepare import prepare
from longtail.training.run_directory import run_paths
from tests.image_tree import colour_of, write_class, write_image


def folder_options(tmp_path: Path, options_type: type[DataOptions] = PrepareOptions, **values: object) -> DataOptions:
    given = {"dataset": "folder", "path": tmp_path / "tree", "data_dir": tmp_path / "data", "image_size": 8}
    return resolve_options(options_type, {**given, **values})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_class(tmp_path / "tree" / "a", 5)
    write_class(tmp_path / "tree" / "b", 5, first_colour=50)
    return tmp_path / "tree"


def test_a_data_set_with_files_of_its_own_name_has_no_state(tmp_path: Path) -> None:
    assert state_of_own_files(resolve_options(DataOptions, {"data_dir": tmp_path})) is None


def test_the_state_changes_with_every_change_of_a_file_and_with_nothing_else(tmp_path: Path, tree: Path) -> None:
    options = folder_options(tmp_path, unlabeled=str(tmp_path / "more"))
    write_class(tmp_path / "more", 1)
    options = folder_options(tmp_path, unlabeled=str(tmp_path / "more"))
    states = [state_of_own_files(options)]
    assert state_of_own_files(options) == states[0]
    (tree / ".hidden").write_text("x")
    (tree / "dangling").symlink_to("nowhere")
    assert state_of_own_files(options) == states[0]
    write_image(tree / "a" / "000.png", (9, 9, 9))
    states.append(state_of_own_files(options))
    status = (tree / "a" / "001.png").stat()
    os.utime(tree / "a" / "001.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    states.append(state_of_own_files(options))
    (tree / "b" / "004.png").rename(tree / "b" / "005.png")
    states.append(state_of_own_files(options))
    (tmp_path / "more" / "000.png").unlink()
    states.append(state_of_own_files(options))
    assert len(set(states)) == 5


@pytest.mark.long
def test_changed_files_are_prepared_again_and_trained_on_in_another_run(
    spark: SparkSession, tmp_path: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = folder_options(tmp_path)
    set_dir = prepare(spark, options)
    first = read_manifest(set_dir)
    manifest_file = (set_dir / "manifest.json").stat()

    assert prepare(spark, options) == set_dir
    assert (set_dir / "manifest.json").stat() == manifest_file, "unchanged files leave the set as it is"
    runs = [run_paths(folder_options(tmp_path, TrainOptions), set_dir=set_dir).run_dir]
    assert "have changed" not in capsys.readouterr().out

    write_image(tree / "a" / "new.png", colour_of(200))
    assert prepare(spark, options) == set_dir
    assert "have changed: it is prepared again" in capsys.readouterr().out
    second = read_manifest(set_dir)
    assert sum(map(sum, first.counts.values())) == 10 and sum(map(sum, second.counts.values())) == 11
    runs.append(run_paths(folder_options(tmp_path, TrainOptions), set_dir=set_dir).run_dir)

    (tree / "a" / "new.png").touch()
    prepare(spark, options)
    assert read_manifest(set_dir).checksums == second.checksums
    runs.append(run_paths(folder_options(tmp_path, TrainOptions), set_dir=set_dir).run_dir)
    assert runs[0] != runs[1] == runs[2], "the images decide, not the time of their files"
