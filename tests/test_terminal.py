"""What a person sees in a terminal of 80 columns and 24 lines, and in a pipe."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from longtail.conf.base.files import write_json_atomically
from longtail.spark_jobs.display import activity, live_view, progress
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.display.live_view import screen
from longtail.spark_jobs.display.progress import EpochProgress
from longtail.spark_jobs.steps import label_quality
from longtail.spark_jobs.steps.label_quality import show_quality
from longtail.streaming.events.schema import StepEvent
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.writing import write_run
from tests.events import an_event, class_event
from tests.result_rows import class_rows, table

SHOWN = Console(width=80, height=24, markup=False, force_terminal=True)
PIPED = Console(width=80, markup=False)


@pytest.fixture
def shown_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Console], None]:
    def show(terminal: Console) -> None:
        for module in (activity, label_quality, live_view, progress):
            monkeypatch.setattr(module, "console", lambda: terminal)

    return show


def write_tables(tables_dir: Path, run: str, *, num_classes: int, num_alerts: int = 0) -> None:
    rows = class_rows({c: [0.5] for c in range(num_classes)}, run=run)
    segments = {"class_epochs": {"0": rows}, "epochs": {"0": table("epochs", {"run": run, "images_per_second": 100.0})}}
    alerts = [{"run": run, "message": f"class {number} fell to 0.0 %"} for number in range(num_alerts)]
    tables = {"runs": table("runs", {"run": run}).to_pylist(), "alerts": table("alerts", *alerts).to_pylist()}
    manifest = RunManifest(run=run, segment_epochs={"class_epochs": 1000, "epochs": 1000, "steps": 100})
    write_run(tables_dir, manifest, segments, tables)


@pytest.mark.parametrize("num_classes", [10, 8_142])
def test_the_monitor_keeps_head_tail_and_summary_in_24_lines(
    tmp_path: Path, shown_on: Callable[[Console], None], num_classes: int
) -> None:
    for number in range(5):
        write_tables(tmp_path, f"run{number}", num_classes=num_classes, num_alerts=9)
    shown_on(SHOWN)
    rendered = SHOWN.render_lines(screen(tmp_path, None, height=23), SHOWN.options.update(height=None), pad=False)
    lines = ["".join(part.text for part in line) for line in rendered]
    assert len(lines) == 23 and all(len(line.rstrip()) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "class 0 " in text and f"class {num_classes - 1} " in text
    num_shown = sum(line.strip().startswith("class ") and "50.0 (25-75)" in line for line in lines)
    assert f"… {num_classes - num_shown:,} between" in text and num_shown >= 2
    assert "balanced accuracy 50.0 %" in text and "and 7 more alerts" in text
    assert "and 2 other runs" in lines[-1] and sum("epoch 1/4" in line for line in lines) == 3


def test_a_table_that_fits_has_all_classes(tmp_path: Path, shown_on: Callable[[Console], None]) -> None:
    write_tables(tmp_path, "base", num_classes=10)
    shown_on(SHOWN)
    with SHOWN.capture() as captured:
        SHOWN.print(screen(tmp_path, None, height=23))
    text = captured.get()
    assert all(f"class {number} " in text for number in range(10)) and "between" not in text
    assert len(text.splitlines()) <= 23


@pytest.mark.parametrize(("phase", "split"), [("pretrain_moco", "train"), ("pretrain_rot", "test")])
def test_the_monitor_shows_a_pre_training_by_its_own_task(
    tmp_path: Path, shown_on: Callable[[Console], None], phase: str, split: str
) -> None:
    """A contrastive one has no test set."""
    told = {"phase": phase, "split": split}
    scores = {**told, "loss": 3.25, "accuracy": 0.5, "few_shot_accuracy": None, "images_per_second": 100.0}
    segments = {
        "class_epochs": {"0": class_rows({0: [0.5], 1: [0.25]}, **told)}, "epochs": {"0": table("epochs", scores)}
    }  # fmt: skip
    manifest = RunManifest(run="base", segment_epochs={"class_epochs": 1000, "epochs": 1000, "steps": 100})
    write_run(tmp_path, manifest, segments, {"runs": table("runs", {"phase": phase}).to_pylist()})
    shown_on(SHOWN)
    with SHOWN.capture() as captured:
        SHOWN.print(screen(tmp_path, None, height=23))
    text = " ".join(captured.get().split())
    figures = "loss 3.250, views recognised 50.0 %" if split == "train" else "task accuracy 50.0 %, loss 3.250"
    assert f"{phase} epoch 1/4, {split}: {figures}, " in text and "100 images/s" in text
    assert not any(word in text for word in ("few", "many", "shots", "bias", "balanced"))
    assert ("answer" in text and "class 1 " in text) == (split == "test")


def test_the_bar_of_a_training_moves_within_an_epoch(tmp_path: Path, shown_on: Callable[[Console], None]) -> None:
    shown_on(SHOWN)
    bar = EpochProgress(tmp_path, run="base", attempt=1, num_epochs=3)
    writer = EventWriter(tmp_path, run="base", attempt=1)

    def completed() -> float:
        bar._show_new()
        return bar._progress.tasks[0].completed

    writer.write_epoch(1, [class_event(split="train")])
    assert completed() == 1
    event: Any = an_event(StepEvent, epoch=2, step=3, num_steps=10)
    writer.write_step(event)
    assert completed() == pytest.approx(1.3)
    writer.write_step(an_event(StepEvent, epoch=2, step=9, num_steps=10))  # pyright: ignore[reportArgumentType]
    assert completed() == pytest.approx(1.9)
    writer.write_epoch(2, [class_event(split="train", epoch=2)])
    assert completed() == 2


class OneStage:
    """The status tracker of a session in which 3 of 8 tasks are done."""

    def statusTracker(self) -> "OneStage":
        return self

    def getActiveStageIds(self) -> list[int]:
        return [1, 2]

    def getStageInfo(self, stage: int) -> SimpleNamespace | None:
        return SimpleNamespace(numTasks=8, numCompletedTasks=3) if stage == 1 else None  # the other is over by now


@pytest.mark.parametrize(("silent_seconds", "num_lines"), [(0.05, 1), (60.0, 0)])
def test_a_pipe_gets_a_line_where_a_job_would_be_silent(
    shown_on: Callable[[Console], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    silent_seconds: float,
    num_lines: int,
) -> None:
    shown_on(PIPED)
    monkeypatch.setattr(activity, "SILENT_SECONDS", silent_seconds)
    monkeypatch.setattr(activity, "POLL_SECONDS", 0.02)
    spark: Any = SimpleNamespace(sparkContext=OneStage())
    with Activity(spark, "finding the images") as doing:
        doing.now("reading the images")
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert bool(lines) == bool(num_lines)
    assert all(line.startswith("reading the images, 3 of 8 tasks, ") for line in lines)


def test_a_bar_has_the_tasks_and_leaves_what_is_drawn_already(
    shown_on: Callable[[Console], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As within `pipeline`, which draws its own screen; rich below version 14 refuses a second one."""
    shown_on(SHOWN)
    monkeypatch.setattr(activity, "POLL_SECONDS", 0.02)
    spark: Any = SimpleNamespace(sparkContext=OneStage())
    with SHOWN.capture(), Live(console=SHOWN), Activity(spark, "predicting the images") as doing:
        time.sleep(0.3)
        (line,) = doing._progress.tasks
        assert (line.completed, line.total, line.fields["tasks"]) == (3, 8, "3 of 8 tasks")
        doing.now("computing the scores")
        assert line.description == "computing the scores"


def quality(**changes: Any) -> dict[str, Any]:
    row = {"class_id": 0, "class_name": "cat", "predicted": 100, "support": 40, "labelled": 40, "correct": 13}
    return {**row, "judged": 40, "precision": 13 / 40, "recall": 13 / 40, **changes}


@pytest.mark.parametrize(("correct", "is_warned"), [(13, True), (30, False)])
def test_pseudo_labels_that_are_too_often_wrong_bring_a_warning(
    tmp_path: Path,
    shown_on: Callable[[Console], None],
    capsys: pytest.CaptureFixture[str],
    correct: int,
    is_warned: bool,
) -> None:
    shown_on(PIPED)
    content = {"accuracy": correct / 40, "classes": [quality(correct=correct)]}
    write_json_atomically(tmp_path / "labels.quality.json", content)
    show_quality(tmp_path / "labels.parquet")
    printed = capsys.readouterr().out
    assert f"{correct} of 40 right: " in printed
    assert ("warning: less than 75 % of the pseudo-labels are right; on CIFAR-10, training on" in printed) == is_warned
    assert label_quality.are_too_often_wrong(tmp_path / "labels.parquet") == is_warned


def test_nothing_is_said_of_the_quality_of_labels_whose_truth_nobody_knows(
    tmp_path: Path, shown_on: Callable[[Console], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shown_on(PIPED)
    row = quality(support=0, labelled=0, correct=0, judged=0, precision=None, recall=None)
    write_json_atomically(tmp_path / "labels.quality.json", {"accuracy": None, "classes": [row]})
    show_quality(tmp_path / "labels.parquet")
    printed = capsys.readouterr().out
    assert "%" not in printed and "100" in printed
    assert printed.rstrip().endswith("the classes of the unlabeled part are unknown")
    assert not label_quality.are_too_often_wrong(tmp_path / "labels.parquet")
