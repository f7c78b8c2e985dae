"""A set whose rows travel as the barrier stage's partitions: the same training as by path, to the last bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.barrier import run_in_barrier_stage
from longtail.spark_jobs.cluster.shipping import packed_pseudo_labels, run_with_shipped_set, set_rows
from longtail.spark_jobs.steps.training import train_run
from longtail.training.command import main as bare_main
from longtail.training.distributed import Rank, gather_bytes
from tests.refusals import refused
from tests.tiny_set import (
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
    write_tiny_set,
)


def test_every_rank_gets_every_row_but_no_withheld_label_though_the_set_is_out_of_its_reach(
    spark: SparkSession, tmp_path: Path
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    manifest, frame = read_manifest(set_dir), set_rows(spark, set_dir)
    table = write_pseudo_labels(tmp_path / "labels.parquet", unlabeled_ids(), [0] * 12, [1.0] * 12)
    packed = packed_pseudo_labels(table)
    expected = {split: load_split(set_dir, split, manifest) for split in COUNTS}
    shutil.rmtree(set_dir)
    shutil.rmtree(table)

    def look(rank, paths):
        import pyarrow.parquet as pq

        from longtail.data.pseudo_label_table import load_pseudo_labels

        found = {split: load_split(paths.set_dir, split, read_manifest(paths.set_dir)) for split in COUNTS}
        return {
            "directory": str(paths.set_dir.parent),
            "ids": {split: arrays.ids.tolist() for split, arrays in found.items()},
            "images": {split: arrays.images.tolist() for split, arrays in found.items()},
            "pseudo_labels": load_pseudo_labels(paths.pseudo_labels)[0].tolist(),
            "columns": pq.read_schema(next(paths.set_dir.rglob("*.parquet"))).names,
        }

    def rank_main(rank, rows):
        assert 0 < rows.num_rows < 88, "a rank is brought a part, and given the rest by the others"
        return run_with_shipped_set(look, rank, rows, paths=paths, manifest=manifest, pseudo_labels=packed)

    paths = paths_of(set_dir, tmp_path / "run", pseudo_labels=table)
    seen = run_in_barrier_stage(spark, rank_main, world_size=2, description="look", rows=frame)

    for rank in seen:
        assert rank["ids"] == {split: arrays.ids.tolist() for split, arrays in expected.items()}
        for split, arrays in expected.items():
            np.testing.assert_array_equal(rank["images"][split], arrays.images)
        assert rank["pseudo_labels"] == unlabeled_ids()
        assert rank["columns"] == ["id", "image", "label"]
        assert not Path(rank["directory"]).exists(), "nothing is left where the rank laid the set out"
    assert seen[0]["directory"] != seen[1]["directory"]
    assert set(expected) == {TRAIN, VAL, UNLABELED, TEST}


@pytest.mark.long
def test_a_training_on_what_was_brought_gives_the_weights_of_one_by_path(spark: SparkSession, tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    table = write_pseudo_labels(tmp_path / "labels.parquet", unlabeled_ids()[:5], [0, 1, 2, 0, 1], [1.0] * 5)
    weights = []
    for how in ("path", "partitions"):
        options = tiny_options(
            TrainSemiOptions,
            imb_factor_unlabel=1.0,
            runs_dir=tmp_path / how,
            data_through=how,
            world_size=2,
            epochs=2,
        )
        run = train_run(spark, options, set_dir=set_dir, pseudo_labels=table, show_progress=False)
        weights.append(weights_in(run.checkpoint))
    assert same_tensors(*weights)


def test_one_rank_has_what_it_has() -> None:
    assert gather_bytes(b"abc", Rank(0, 1, None)) == [b"abc"]


def test_the_way_of_the_images_is_not_part_of_the_run_s_name() -> None:
    names = {tiny_options(TrainOptions, data_through=how).run_name({}) for how in ("path", "partitions")}
    assert len(names) == 1


@pytest.mark.parametrize("sizes", [(0, 5), (3, 3)])
def test_pieces_of_unequal_size_come_whole_and_in_rank_order(spark: SparkSession, sizes: tuple[int, int]) -> None:
    def rank_main(rank):
        own = "ab"[rank.rank] * sizes[rank.rank]
        return {"pieces": [piece.decode() for piece in gather_bytes(own.encode(), rank)]}

    seen = run_in_barrier_stage(spark, rank_main, world_size=2, description="gather")
    assert [rank["pieces"] for rank in seen] == [["a" * sizes[0], "b" * sizes[1]]] * 2


def test_sending_images_through_partitions_needs_spark(set_dir: Path) -> None:
    with refused() as messages:
        bare_main(["train", "--set_dir", str(set_dir), "--data_through", "partitions"])
    assert messages[0] == "--data_through partitions needs Spark: leave it out"
