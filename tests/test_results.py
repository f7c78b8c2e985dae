"""A result in the terminal: what is shown of few classes and of many, of held-out data and of none."""

from typing import Any

import pytest

from longtail.spark_jobs.display.scores import MAX_CLASSES_SHOWN, mistakes_line, print_result


def scores(num_classes: int, *, held_out: bool = True) -> dict[str, Any]:
    """Scores of a split with ten images a class, all right but for one of class 0 that was taken for class 1."""
    wrong = [1, *[0] * (num_classes - 1)]
    values: dict[str, Any] = {
        "accuracy": 0.95,
        "balanced_accuracy": 0.9,
        **{f"{group}_shot_accuracy": None for group in ("many", "medium", "few")},
        "class_accuracy": [(10 - w) / 10 for w in wrong],
        "class_precision": [None, *[1.0] * (num_classes - 1)],
        "class_f1": [0.875] * num_classes,
        "macro_f1": 0.875,
        "totals": {"support": [10.0] * num_classes},
    }
    if held_out:
        values["top5_accuracy"] = 0.97
        values["expected_calibration_error"] = 0.125
        values["confusion"] = {"target": [0, 0, 1], "predicted": [0, 1, 1], "count": [9, 1, 10]}
    return values


def shown(num_classes: int, splits: dict[str, Any], capsys: pytest.CaptureFixture[str], *, phase: str = "train") -> str:
    print_result(
        {
            "run": "a-run",
            "phase": phase,
            "epoch": 3,
            "class_names": [f"kind {i}" for i in range(num_classes)],
            "class_counts": [7] * num_classes,
            "shot_groups": ["few"] * num_classes,
            "best_on_validation": None,
            "chosen_on_validation": {"tau_norm": 0.7},
            "splits": splits,
        }
    )
    return capsys.readouterr().out


def test_a_result_shows_each_class_and_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(3, {"train": scores(3, held_out=False), "test": scores(3)}, capsys)
    assert "a-run, epoch 3, test set" in text
    row = next(line for line in text.splitlines() if "kind 0" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["kind 0", "few", "7", "10", "90.0 (60-98)", "-", "87.5"]
    assert "top-5 accuracy 97.0 %, macro F1 87.5 %, calibration error 12.5 %" in text
    assert "most often mistaken: kind 0 as kind 1 (1)" in text
    assert "tau_norm 0.7" in text


def test_of_very_many_classes_only_the_scores_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    number = MAX_CLASSES_SHOWN + 1
    text = shown(number, {"test": scores(number)}, capsys)
    assert f"{number} classes: result.json has the scores of each" in text
    assert len(text.splitlines()) < 10 and "balanced accuracy 90.0 %" in text


def test_a_training_without_held_out_data_shows_what_it_measured_while_learning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(2, {"train": scores(2, held_out=False)}, capsys)
    assert "train set" in text and "calibration" not in text


def test_a_run_that_measured_nothing_says_that_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(2, {}, capsys) == "a-run, epoch 3: has all its epochs\n"


def test_the_most_frequent_mistakes_come_first_and_right_answers_are_none() -> None:
    confusion = {"target": [0, 0, 1, 2, 2], "predicted": [0, 2, 0, 1, 2], "count": [50, 3, 9, 3, 4]}
    assert mistakes_line(confusion, ["a", "b", "c"]) == "most often mistaken: b as a (9), a as c (3), c as b (3)"
    assert mistakes_line({"target": [0], "predicted": [0], "count": [5]}, ["a"]) == ""


def test_a_pre_training_shows_its_own_task_and_nothing_of_class_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    of_rotations = {**scores(4), "top5_accuracy": None, "loss": 1.25}
    text = shown(4, {"test": of_rotations}, capsys, phase="pretrain_rot")
    row = next(line for line in text.splitlines() if "kind 0" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["kind 0", "10", "90.0 (60-98)", "-", "87.5"]
    assert "last epoch: task accuracy 95.0 %, loss 1.250\nlast epoch: macro F1 87.5 %" in text
    assert "few" not in text and "- %" not in text and "balanced" not in text


@pytest.mark.parametrize("phase", ["pretrain_moco", "pretrain_simclr"])
def test_a_contrastive_pre_training_has_no_table_of_classes(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(2, {"train": {**scores(2, held_out=False), "loss": 3.5}}, capsys, phase=phase)
    assert text == "a-run, epoch 3, train set\nlast epoch: loss 3.500, views recognised 95.0 %\n"
