"""The events of a labelling (spark_jobs/steps/labelling_events.py): per class how many and how sure; the round."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.steps.labelling_events import write_labelling_events
from longtail.training.run import run_training
from tests.events import events_in
from tests.tiny_set import ALONE, paths_of, tiny_options, unlabeled_ids, write_pseudo_labels, write_tiny_set

LABELS = [0] * 7 + [1] * 5
CONFIDENCES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.5, 0.5, 0.6, 0.9, 1.0]


def labelling_events(events_dir: Path) -> dict[int, list[dict[str, Any]]]:
    """By round."""
    found: dict[int, list[dict[str, Any]]] = {}
    for file in sorted(events_dir.glob("*-pseudo_labels-*.jsonl")):
        for line in file.read_text().splitlines():
            event = json.loads(line)
            found.setdefault(event["round"], []).append(event)
    return found


def test_a_labelling_tells_of_each_class_and_of_the_labelling_that_its_classifier_learned_from(
    spark: SparkSession, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    set_dir = write_tiny_set(tmp_path / "set")
    manifest = read_manifest(set_dir)
    first, second = (
        write_pseudo_labels(tmp_path / f"labels{i}.parquet", unlabeled_ids(), LABELS, CONFIDENCES, this_round=i)
        for i in (1, 2)
    )
    runs = tmp_path / "runs"
    run_training(tiny_options(TrainOptions), paths_of(set_dir, runs / "base"), ALONE, attempt=1)
    write_labelling_events(spark, first, checkpoint=runs / "base" / "ckpt.pth.tar", manifest=manifest)
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1, pseudo_labels=first)
    run_training(options, paths_of(set_dir, runs / "semi", pseudo_labels=first), ALONE, attempt=1)
    write_labelling_events(spark, second, checkpoint=runs / "semi" / "ckpt.pth.tar", manifest=manifest)

    told = labelling_events(runs / "events")
    assert [(e["run"], e["previous_run"]) for e in (told[1][0], told[2][0])] == [("base", ""), ("semi", "base")]
    assert [(e["class_id"], e["class_name"], e["labelled_count"]) for e in told[1]] == [
        (0, "class 0", 24),
        (1, "class 1", 12),
        (2, "class 2", 4),
    ]
    assert [e["pseudo_label_count"] for e in told[1]] == [7, 5, 0]
    head, body, tail = told[1]
    assert head["mean_confidence"] == pytest.approx(0.4)
    quantiles = [head[f"confidence_{name}"] for name in ("p10", "p50", "p90")]
    assert quantiles == pytest.approx(np.quantile(CONFIDENCES[:7], [0.1, 0.5, 0.9]), rel=1e-6)
    assert body["mean_confidence"] == pytest.approx(0.7)
    assert [tail[name] for name in ("mean_confidence", "confidence_p10", "confidence_p90")] == [None] * 3
    # The training on them says how many of its images are pseudo-labelled.
    (epoch,) = (runs / "events").glob("semi-attempt001-epoch00001.parquet")
    classes = [e for e in events_in(epoch) if e["kind"] == "class"]
    assert {(e["class_id"], e["train_count"], e["pseudo_label_count"]) for e in classes} == {
        (0, 31, 7),
        (1, 17, 5),
        (2, 4, 0),
    }


def test_a_checkpoint_that_lies_in_no_runs_directory_leaves_no_events_about(
    spark: SparkSession, tmp_path: Path
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    table = write_pseudo_labels(tmp_path / "labels.parquet", unlabeled_ids(), LABELS, CONFIDENCES)
    paths = paths_of(set_dir, tmp_path / "runs" / "base")
    run_training(tiny_options(TrainOptions), paths, ALONE, attempt=1)
    elsewhere = tmp_path / "download" / "ckpt.pth.tar"
    elsewhere.parent.mkdir()
    (paths.run_dir / "ckpt.pth.tar").rename(elsewhere)
    before = sorted(tmp_path.rglob("*"))

    write_labelling_events(spark, table, checkpoint=elsewhere, manifest=read_manifest(set_dir))

    assert set(tmp_path.rglob("*")) - set(before) == {tmp_path / "labels.origin.json"}
