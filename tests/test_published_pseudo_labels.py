"""Pseudo-labels in the published layout: a pickle without ids or confidences."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtail.conf.options.semi import TrainSemiOptions
from longtail.data.contract import UNLABELED_FIRST_ID
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import load_published_pseudo_labels
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run_directory import run_paths
from tests.refusals import refused
from tests.tiny_set import tiny_options, unlabeled_ids, write_tiny_set


def write_pickle(path: Path, **content: Any) -> Path:
    path.write_bytes(pickle.dumps({"prediction_model": "resnet32", **content}))
    return path


def test_labels_are_in_the_order_of_the_images_ids(tmp_path: Path) -> None:
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.array([2, 0, 1], np.int32))
    labels = load_published_pseudo_labels(file, np.array([5, 7, 9]))
    assert labels.tolist() == [2, 0, 1] and labels.dtype == np.int64


def test_of_labels_for_a_whole_source_those_of_the_taken_images_are_chosen(tmp_path: Path) -> None:
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.arange(10, 20), ground_truth=np.arange(10))
    assert load_published_pseudo_labels(file, UNLABELED_FIRST_ID + np.array([0, 3, 9])).tolist() == [10, 13, 19]


@pytest.mark.parametrize(
    ("content", "ids", "named"),
    [
        ({"extrapolated_targets": np.array([1, 2])}, [5, 7, 9], "has 2 pseudo-labels, the unlabeled part 3 images"),
        ({"extrapolated_targets": np.array([1, 2])}, [UNLABELED_FIRST_ID + 2], "has 2 pseudo-labels"),
        ({"extrapolated_targets": np.array([0.5])}, [5], "has extrapolated_targets of float64 (1,)"),
        ({"extrapolated_targets": np.array([[1]])}, [5], "has extrapolated_targets of int64 (1, 1)"),
        ({"labels": [1]}, [5], "has no extrapolated_targets: it has labels, prediction_model"),
        ({"extrapolated_targets": os.system}, [5], "it names posix.system"),
    ],
    ids=["fewer", "beyond the end", "floats", "a matrix", "no labels", "hostile"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, content: dict[str, Any], ids: list[int], named: str
) -> None:
    file = write_pickle(tmp_path / "p.pickle", **content)
    with refused() as messages:
        load_published_pseudo_labels(file, np.array(ids))
    assert str(file) in messages[0] and named in messages[0]


def test_a_training_takes_them_as_it_takes_a_table(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    targets = [i % 3 for i in range(len(unlabeled_ids()))]
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.array(targets))
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, pseudo_labels=file)
    task = semi_supervised_task(options, set_dir, read_manifest(set_dir), torch.device("cpu"), pseudo_labels=file)
    assert task.data.train.ids[-len(targets) :].tolist() == unlabeled_ids()
    assert task.data.train.labels[-len(targets) :].tolist() == targets


def test_a_label_of_no_class_is_refused(tmp_path: Path) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    file = write_pickle(tmp_path / "p.pickle", extrapolated_targets=np.full(len(unlabeled_ids()), 3))
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, pseudo_labels=file)
    with refused() as messages:
        semi_supervised_task(options, set_dir, read_manifest(set_dir), torch.device("cpu"), pseudo_labels=file)
    assert f"{file} has labels outside 0..2" in messages[0]


def test_another_content_makes_another_run(tmp_path: Path) -> None:
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, runs_dir=tmp_path)
    set_dir, names = write_tiny_set(tmp_path / "set"), set()
    for name, targets in (("a", [0, 1]), ("b", [0, 2]), ("c", [0, 1])):
        file = write_pickle(tmp_path / f"{name}.pickle", extrapolated_targets=np.array(targets))
        names.add(run_paths(options, set_dir=set_dir, pseudo_labels=file).run_dir)
    assert len(names) == 2
