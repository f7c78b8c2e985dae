"""What a run predicts for each image is kept beside it: for images of its last evaluation, and for unlabeled ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, UNLABELED, VAL
from longtail.data.contract import CONFIDENCE, ID, LABEL, PREDICTED, PSEUDO_LABEL
from longtail.data.kept_predictions import (
    EVALUATION,
    STEPS,
    TRAINED_ON,
    keep_ends,
    kept_rows,
    of_classes,
    read_kept,
    write_kept,
)
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.frames.pseudo_label_selection import keep_ends_per_class
from longtail.training.run import run_training
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from tests.events import events_in
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options, unlabeled_ids, write_pseudo_labels

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_last_evaluation_is_kept_image_by_image(set_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_training(tiny_options(TrainOptions, epochs=3, eval_every=2), paths_of(set_dir, run_dir), ALONE, attempt=1)
    manifest = read_manifest(set_dir)
    events = events_in(*(tmp_path / "events").glob("run-*"))
    for split in (VAL, TEST):
        kept = read_kept(run_dir, split)
        assert kept is not None
        assert (kept.source, kept.epoch, kept.per_class) == (EVALUATION, 3, None)
        assert (kept.set_dir, kept.set_identity) == (str(set_dir), manifest.identity)
        images = load_split(set_dir, split, manifest)
        rows = kept.rows.sort_by(ID)
        assert images.labels is not None
        assert rows[ID].to_pylist() == images.ids.tolist() and rows[LABEL].to_pylist() == images.labels.tolist()
        cells = [e for e in events if e["kind"] == "confusion" and (e["split"], e["epoch"]) == (split, 3)]
        for cell in cells:
            of_cell = of_classes(rows, labels=[cell["true_class"]], predicted=[cell["predicted_class"]])
            assert len(of_cell) == cell["count"]
        assert sum(cell["count"] for cell in cells) == len(rows)
        sums = [e["confidence_sum"] for e in events if e["kind"] == "class" and (e["split"], e["epoch"]) == (split, 3)]
        assert sum(rows[CONFIDENCE].to_pylist()) == pytest.approx(sum(sums), rel=1e-5)
    assert read_kept(run_dir, UNLABELED) is None


def test_fixmatch_keeps_its_confident_pseudo_labels_of_the_last_epoch(set_dir: Path, tmp_path: Path) -> None:
    options = tiny_options(
        TrainSemiOptions, semi_method="fixmatch", imb_factor_unlabel=1.0, confidence_threshold=(0.4,), epochs=2,
        ema_decay=0.0,
    )  # fmt: skip
    run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    kept = read_kept(tmp_path / "run", UNLABELED)
    assert kept is not None and (kept.source, kept.epoch) == (STEPS, 2)
    assert len(kept.rows) and set(kept.rows[ID].to_pylist()) <= set(unlabeled_ids())
    assert kept.rows[LABEL].null_count == len(kept.rows), "what the run must not know is not in its files"
    assert min(kept.rows[CONFIDENCE].to_pylist()) >= 0.4 - 1e-6


def test_the_latest_pseudo_label_of_an_image_counts_whichever_rank_made_it() -> None:
    ours, theirs = (ImagePseudoLabels.zeros(4, ALONE.device) for _ in range(2))
    images, confidence = torch.tensor([0, 1]), torch.tensor([0.5, 0.75])
    ours.add(images, torch.tensor([2, 8141]), confidence, torch.tensor([True, True]), step=5)
    theirs.add(images, torch.tensor([7, 3]), torch.tensor([0.25, 1.0]), torch.tensor([False, True]), step=6)
    ours.add(torch.tensor([2]), torch.tensor([1]), torch.tensor([0.9]), torch.tensor([True]), step=4)
    together = ImagePseudoLabels(torch.maximum(ours.values, theirs.values))
    indices, classes, confidences = together.confident()
    assert (indices.tolist(), classes.tolist()) == ([1, 2], [3, 1]), "the latest of image 0 is not confident"
    assert confidences.tolist() == pytest.approx([1.0, 0.9], abs=1e-6)
    indices, classes, confidences = ours.confident()
    assert (indices.tolist(), classes.tolist()) == ([0, 1, 2], [2, 8141, 1])
    assert confidences.tolist() == pytest.approx([0.5, 0.75, 0.9], abs=1e-6)


def test_a_run_on_pseudo_labels_keeps_those_that_it_learns(set_dir: Path, tmp_path: Path) -> None:
    ids = unlabeled_ids()
    confidences = np.linspace(0.4, 0.95, len(ids)).round(3).tolist()
    labels = [index % 3 for index in range(len(ids))]
    table = write_pseudo_labels(tmp_path / "labels", ids, labels, confidences)
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, confidence_threshold=(0.6,))
    run_training(options, paths_of(set_dir, tmp_path / "run", pseudo_labels=table), ALONE, attempt=1)
    kept = read_kept(tmp_path / "run", UNLABELED)
    assert kept is not None and kept.source == TRAINED_ON
    expected = [row for row in zip(ids, labels, confidences, strict=True) if row[2] >= 0.6]
    found = zip(*(kept.rows.sort_by(ID)[name].to_pylist() for name in (ID, PREDICTED, CONFIDENCE)), strict=True)
    assert [(i, label, round(confidence, 3)) for i, label, confidence in found] == expected


def test_a_pre_training_keeps_nothing(set_dir: Path, tmp_path: Path) -> None:
    run_training(tiny_options(PretrainRotOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    assert not (tmp_path / "run" / "predictions").exists()


def test_the_surest_and_the_least_sure_of_each_class_are_kept(spark: SparkSession) -> None:
    ids, labels = np.arange(9), np.array([0, 0, 0, 0, 0, 0, 4, 4, 4])
    confidences = np.array([0.9, 0.5, 0.7, 0.6, 0.8, 0.8, 0.3, 0.2, 0.1])
    rows = kept_rows(ids, labels, confidences)
    expected = {0, 4, 1, 3, 6, 7, 8}  # of class 0: 0.9 and 0.8 (of equal ones the smaller id), 0.5 and 0.6
    assert set(keep_ends(rows, per_class=2)[ID].to_pylist()) == expected
    frame = spark.createDataFrame(
        [(int(i), int(label), float(c)) for i, label, c in zip(ids, labels, confidences, strict=True)],
        f"{ID} long, {PSEUDO_LABEL} int, {CONFIDENCE} float",
    )
    assert {row[ID] for row in keep_ends_per_class(frame, k=2).collect()} == expected


def test_classes_are_selected_by_label_prediction_and_whether_they_agree() -> None:
    rows = kept_rows(np.arange(4), np.array([0, 1, 1, 2]), np.ones(4), np.array([0, 0, 1, 1]))
    assert of_classes(rows, labels=[0])[ID].to_pylist() == [0, 1]
    assert of_classes(rows, labels=[0, 1], predicted=[1])[ID].to_pylist() == [1, 2]
    assert of_classes(rows, is_right=False)[ID].to_pylist() == [1, 3]
    assert of_classes(rows, labels=[1], is_right=True)[ID].to_pylist() == [2]
    unlabeled = kept_rows(np.arange(2), np.array([0, 1]), np.ones(2))
    assert len(of_classes(unlabeled, is_right=True)) == len(of_classes(unlabeled, is_right=False)) == 0
    assert of_classes(unlabeled, predicted=[1])[ID].to_pylist() == [1]


def test_a_damaged_or_newer_file_is_refused_by_name(set_dir: Path, tmp_path: Path) -> None:
    rows = kept_rows(np.arange(2), np.array([0, 1]), np.ones(2), np.array([0, 1]))
    write_kept(tmp_path, TEST, rows, read_manifest(set_dir), set_dir=set_dir, epoch=1)
    file = tmp_path / "predictions" / "test.parquet"
    whole = pq.read_table(file)
    metadata = whole.schema.metadata
    damages = [
        (lambda: pq.write_table(whole.replace_schema_metadata({}), file), "is damaged"),
        (lambda: pq.write_table(whole.drop_columns([PREDICTED]), file), "has no column predicted"),
        (lambda: pq.write_table(pa.table({**{n: whole[n] for n in (ID, LABEL, PREDICTED)}, CONFIDENCE: ["x", "y"]},
                                         metadata=metadata), file), "is damaged"),
        (lambda: pq.write_table(whole.replace_schema_metadata(
            {key: value.replace(b'"format_version": 1', b'"format_version": 2') for key, value in metadata.items()}
        ), file), "this version of Longtail reads up to 1"),
        (lambda: file.write_bytes(b"no Parquet"), "is damaged"),
    ]  # fmt: skip
    for damage, message in damages:
        damage()
        with refused() as messages:
            read_kept(tmp_path, TEST)
        assert message in messages[0] and str(file) in messages[0]
