"""What the live page says is true for every kind of run: pre-trainings, FixMatch, second stages."""

import json
from typing import Any

import pyarrow as pa
import pytest

from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import SEMI_METHODS
from longtail.streaming.dashboard.notes import NO_NOTES
from longtail.streaming.dashboard.page import PageState, page_state
from longtail.streaming.dashboard.phases import CLASSES, CONTRASTIVE, TASK, kind_of_run, makes_pseudo_labels
from longtail.streaming.dashboard.run_table import run_table
from longtail.streaming.dashboard.selection import ALL_RUNS, Selection
from longtail.streaming.dashboard.titles import configuration_titles
from tests.result_rows import class_rows, table
from tests.test_dashboard_page import drawn, reader_of

FIXMATCH = json.dumps({"dataset": "cifar10", "semi_method": "fixmatch", "balancing": "DARP"})


LEARNED = {
    "phase": "classifier",
    "configuration": json.dumps({"dataset": "digits", "method": "cRT", "loss_type": "CE", "epochs": 4}),
}


def of_phase(phase: str, classes: pa.Table, *, compare: tuple[str, ...] = (), **scores: Any) -> PageState:
    """The page of the run base, and of `other`, which is the same."""
    both = [{"run": run, "phase": phase} for run in ("base", "other")]
    tables = {
        "runs": table("runs", *({**one, "started_at": i} for i, one in enumerate(both))),
        "epochs": table("epochs", *({**one, "epoch": e, **scores} for one in both for e in (1, 2))),
        "class_epochs": pa.concat_tables([classes, classes.set_column(0, "run", pa.array(["other"] * len(classes)))]),
    }
    return page_state(reader_of(tables), Selection(run="base", compare=compare, group="few"))


@pytest.mark.parametrize("phase", ["pretrain_moco", "pretrain_simclr"])
def test_a_contrastive_pre_training_shows_its_loss_and_nothing_of_classes(phase: str) -> None:
    views = class_rows({0: [0.25, 0.5], 1: [None, None]}, split="train", label_bias=float("inf"))
    scores = {"split": "train", "loss": 3.25, "accuracy": 0.5, "label_bias": float("inf"), "few_shot_accuracy": None}
    state = of_phase(phase, views, **scores)
    words = " ".join(state.html["overview"].split())
    assert "<dt>loss</dt> <dd>3.250" in words and "<dt>views recognised</dt> <dd>50.0" in words
    assert "shot" not in words and "inf" not in words and "label bias" not in words
    assert drawn(state) == {"loss", "views_recognised"}
    assert "loss <b>3.250</b> · views recognised <b>50.0</b> %" in " ".join(state.html["runs"].split())
    compared = of_phase(phase, views, compare=("other",), **scores)
    assert drawn(compared) == {"loss", "views_recognised", "compared_loss", "compared_views"}
    assert "few-shot" not in compared.html["note-comparison"]


def test_a_rotation_pre_training_shows_its_task() -> None:
    state = of_phase("pretrain_rot", class_rows({i: [0.25, 0.5] for i in range(4)}), accuracy=0.75, loss=1.0)
    words = " ".join(state.html["overview"].split())
    assert "<dt>task accuracy</dt> <dd>75.0" in words and "shot" not in words
    assert drawn(state) == {"loss", "task_accuracy", "class_accuracy"}
    assert list(state.figures["task_accuracy"].data[0].y) == [0.75, 0.75]
    assert not any("head first" in html or "pseudo-label" in html for html in state.html.values())


def test_scores_of_classes_are_none_of_a_pre_training_in_the_table() -> None:
    rows = table("runs", {"phase": "pretrain_rot"}).to_pylist()
    found = run_table(
        rows, table("epochs", {}), Selection(view=ALL_RUNS, columns=("balanced_accuracy", "loss")), NO_NOTES
    )
    assert [cell.text for cell in found.rows[0].cells] == ["–", "1.000"]


def fixmatch(*unlabeled: pa.Table) -> PageState:
    tables = {
        "runs": table("runs", {"phase": "train_semi", "configuration": FIXMATCH}),
        "epochs": table("epochs", {}),
        "class_epochs": pa.concat_tables([class_rows({0: [0.5], 1: [0.25]}), *unlabeled]),
    }
    return page_state(reader_of(tables), Selection())


def test_fixmatch_shows_how_many_pseudo_labels_its_steps_made_and_how_right_they_are() -> None:
    changes = {"split": "unlabeled", "support": 100, "predicted": 50, "precision": 0.75}
    state = fixmatch(class_rows({0: [0.25, 0.5], 1: [0.75, 0.25]}, **changes))
    words = " ".join(state.html["overview"].split())
    assert "<h1>cifar10, FixMatch with DARP</h1>" in words
    assert "<dt>unlabeled images used</dt> <dd>50.0" in words  # 2 * 50 of 2 * 100
    assert "<dt>pseudo-labels right</dt> <dd>75.0" in words  # (50 + 25) of 100
    labels, pseudo = state.figures["pseudo_labels"].data
    assert (list(labels.x), list(pseudo.x)) == ([100, 99], [50, 50])
    precision, recall = state.figures["pseudo_label_classes"].data
    assert (list(precision.x), list(recall.x)) == ([0.75, 0.75], [0.5, 0.25])  # the last epoch
    assert "neither makes nor uses" not in state.html["note-pseudo_labels"]


def test_fixmatch_on_images_of_unknown_classes_says_that_nobody_knows() -> None:
    state = fixmatch()
    assert "makes pseudo-labels in every step" in state.html["note-pseudo_labels"]
    assert "nobody knows the classes" in state.html["note-pseudo_labels"] and state.figures["pseudo_labels"] is None
    assert "pseudo-labels right" not in state.html["overview"] and not state.html["note-pseudo_label_quality"]


def test_a_run_leads_to_the_runs_that_it_starts_from() -> None:
    places = {
        "resume": "/x/runs/first/ckpt.pth.tar",
        "pseudo_labels": "runs/<b>/t.parquet",
        "pretrained_model": "w.pth",
    }
    rows = table("runs", {"phase": "classifier", "configuration": json.dumps(places)}, {"run": "first"})
    html = page_state(reader_of({"runs": rows}), Selection(run="base")).html["overview"]
    assert 'starts from <a href="?run=first">digits, labels alone</a>' in html and "pseudo-labels of" not in html


def test_every_phase_has_its_kind() -> None:
    kinds = {phase: kind_of_run(phase) for phase in (*PRETRAININGS, "pretrain_mine", "train", "classifier", "mine")}
    assert [phase for phase, kind in kinds.items() if kind is CONTRASTIVE] == ["pretrain_moco", "pretrain_simclr"]
    assert [phase for phase, kind in kinds.items() if kind is TASK] == ["pretrain_rot", "pretrain_mine"]
    assert all(kinds[phase] is CLASSES for phase in ("train", "classifier", "mine"))
    assert {method for method in SEMI_METHODS if makes_pseudo_labels("train_semi", {"semi_method": method})} == {
        "fixmatch"
    }


@pytest.mark.parametrize(("method", "learns"), [("cRT", True), ("LWS", True), ("tau", False), ("NCM", False)])
def test_a_classifier_that_is_made_without_learning_has_no_learning_rate_loss_function_or_rule(
    method: str, learns: bool
) -> None:
    options = {"dataset": "digits", "method": method, "loss_type": "CE", "train_rule": "ClassBalanced", "epochs": 1}
    row = {"phase": "classifier", "configuration": json.dumps(options)}
    tables = {
        "runs": table("runs", row),
        "epochs": table("epochs", {"split": "train", "learning_rate": 0.1, "images_per_second": 100.0}),
        "class_epochs": class_rows({0: [0.5]}, split="train"),
    }
    state = page_state(reader_of(tables), Selection())
    assert ("ClassBalanced" in state.html["overview"]) == learns
    assert {"loss", *(("learning_rate", "speed") if learns else ())} == drawn(state) & {
        "loss",
        "learning_rate",
        "speed",
    }
    assert ("1 epoch" in configuration_titles([{"run": "a", **row}, {**LEARNED, "run": "b"}], [])["a"]) == learns
    assert ("without learning" in state.html["note-curves"]) == (not learns)
    assert list(state.figures["loss"].layout.xaxis.range) == [0.5, 1.5], "one epoch has none before it"
