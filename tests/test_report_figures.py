"""The figures of a report: which axes are numbers, what a curve goes through, which arms are shown, the maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.arms import Arm
from longtail.spark_jobs.studies.comparisons import compare_levels
from longtail.spark_jobs.studies.feature_maps import FeatureMap, features_file, is_mapped, read_maps
from longtail.spark_jobs.studies.figures.class_figures import MAX_CELLS, plot_bars, plot_classes, plot_confusion
from longtail.spark_jobs.studies.figures.difference_figures import plot_differences
from longtail.spark_jobs.studies.figures.label_figures import plot_label_gains
from longtail.spark_jobs.studies.figures.map_figures import plot_maps
from longtail.spark_jobs.studies.figures.report_figures import report_figures, shown_arms
from longtail.spark_jobs.studies.figures.score_figures import plot_curve, plot_scores
from longtail.spark_jobs.studies.label_gains import LabelGain, fit_gains, gain_sentence, label_gains
from longtail.spark_jobs.studies.markdown_labels import right_labels_section
from longtail.spark_jobs.studies.numeric_axes import numeric_axes
from longtail.spark_jobs.studies.plan import plan

AMOUNTS = {
    "none": {},
    "5x": {"imb_factor_unlabel": 1, "unlabel_size_factor": 5},
    "0.5x": {"imb_factor_unlabel": 1, "unlabel_size_factor": 0.5},
}


def experiment(axes: dict[str, Any], **parts: Any) -> Experiment:
    return Experiment.model_validate({"title": "t", "seeds": [3, 5], "axes": axes, **parts})


def arm(levels: dict[str, str], accuracies: list[float]) -> Arm:
    rows = [
        {
            "levels": levels, "seed": seed, "balanced_accuracy": accuracy, "few_shot_accuracy": accuracy / 2,
            "many_shot_accuracy": accuracy, "medium_shot_accuracy": None, "pseudo_label_accuracy": None,
            "class_names": ["a", "b"], "class_counts": [2, 40], "shot_groups": ["few", "many"],
            "class_accuracy": [accuracy, None], "confusion": [{"target": 0, "predicted": 1, "count": 1}],
        }
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    return Arm(levels, rows)


def test_of_8142_classes_means_are_computed_once_and_confusions_are_of_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    number, computed = 8142, []
    names = {
        "class_names": [f"c{i}" for i in range(number)],
        "class_counts": list(range(number)),
        "shot_groups": ["few"] * number,
    }
    accuracies = [i / number for i in range(number)]
    cells = [{"target": i, "predicted": number - 1, "count": 1} for i in range(number)]
    many = Arm({}, [{**arm({}, [0.5]).rows[0], **names, "class_accuracy": accuracies, "confusion": cells}])
    means = Arm.class_means
    monkeypatch.setattr(Arm, "class_means", lambda self, score: computed.append(score) or means(self, score))
    (image,) = plot_classes([many]).axes[0].images
    assert computed == ["class_accuracy"] and image.get_array()[0, 0] == pytest.approx(100 * accuracies[-1])
    (confusion,) = plot_confusion([many]).axes[0].images
    shares = confusion.get_array()
    assert shares.shape == (MAX_CELLS, MAX_CELLS) and (shares[:, 0] == 100).all()  # the head is the last class


def test_an_axis_is_a_number_if_its_levels_give_an_option_different_ones() -> None:
    rho, amount = numeric_axes(
        experiment(
            {
                "rho": {"100": {"imb_factor": 0.01}, "10": {"imb_factor": 0.1}},
                "rule": {"CE": {}, "DRW": {"train_rule": "DRW"}},
                "D_U": {"none": {}, "a": {"imb_factor_unlabel": 1}},
                "amount": {"5x": {"unlabel_size_factor": 5}, "1x": {"unlabel_size_factor": 1}},
            },
            options={"imb_factor_unlabel": 1},
        )
    )
    assert (rho.axis, rho.name, rho.references) == ("rho", "rho", [])
    assert rho.values == {"100": pytest.approx(100), "10": pytest.approx(10)}
    assert (amount.axis, amount.values) == ("amount", {"5x": 5, "1x": 1})


def test_labels_alone_are_a_reference_beside_the_amounts_of_unlabeled_data() -> None:
    (amount,) = numeric_axes(experiment({"D_U": AMOUNTS}))
    assert (amount.name, amount.values) == ("unlabeled images per labelled one", {"5x": 5, "0.5x": 0.5})
    assert amount.references == ["none"]


def test_a_level_without_a_relevance_is_fully_relevant() -> None:
    (axis,) = numeric_axes(
        experiment({"relevance": {"all": {}, "half": {"relevance": 0.5}}}, options={"imb_factor_unlabel": 1})
    )
    assert (axis.name, axis.values, axis.references) == ("relevance", {"all": 1, "half": 0.5}, [])


def test_methods_with_epochs_of_their_own_are_no_numeric_axis() -> None:
    methods = {"FixMatch": {"semi_method": "fixmatch"}, "CReST+": {"balancing": "CReST+", "epochs": 20}}
    assert numeric_axes(experiment({"method": methods}, options={"epochs": 60})) == []


def test_switches_and_names_are_no_numbers() -> None:
    assert numeric_axes(experiment({"a": {"x": {"evaluate": True}, "y": {"loss_type": "LDAM"}}})) == []


def test_a_curve_goes_through_the_means_by_their_numbers_with_deviations_and_references() -> None:
    (amount,) = numeric_axes(experiment({"D_U": AMOUNTS, "rule": {"CE": {}}}))
    arms = [
        arm({"D_U": level, "rule": "CE"}, accuracies)
        for level, accuracies in (("none", [0.1, 0.3]), ("5x", [0.5, 0.7]), ("0.5x", [0.4, 0.4]))
    ]
    figure = plot_curve(amount, arms)
    assert figure is not None
    axes = figure.axes[0]
    line, reference = axes.containers[0].lines[0], axes.lines[-1]
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 40], [5, 60]])
    # 5x: 0.5 and 0.7, whose sample standard deviation is sqrt(0.02) = 14.1 points.
    bar = axes.containers[0].lines[2][0].get_segments()[1]
    np.testing.assert_allclose(bar[:, 1], [60 - 100 * 0.02**0.5, 60 + 100 * 0.02**0.5])
    assert reference.get_ydata()[0] == pytest.approx(20) and reference.get_label() == "CE, none"
    assert axes.get_xscale() == "log"
    ticks = [(tick.get_text(), *tick.get_position()) for tick in axes.get_xticklabels(which="both")]
    assert [tick[:2] for tick in ticks] == [("0.5", 0.5), ("5", 5)], "the levels, and no powers of ten"


def test_scores_are_drawn_on_axes_that_fit_them() -> None:
    # No class is medium-shot: three panels. Accuracies of 80 to 90 % do not begin at 0.
    figure = plot_scores([arm({"n": "1"}, [0.8, 0.82]), arm({"n": "2"}, [0.88, 0.9])])
    assert [axes.get_title() for axes in figure.axes] == ["balanced accuracy", "many-shot", "few-shot"]
    assert figure.axes[0].get_xlim()[0] > 70 and figure.axes[2].get_xlim()[1] < 50


def test_differences_are_drawn_with_their_interval_and_pairs_beside_zero() -> None:
    two = experiment({"n": {"1": {"epochs": 1}, "2": {"epochs": 2}}})
    rows = [*arm({"n": "1"}, [0.5, 0.5, 0.5]).rows, *arm({"n": "2"}, [0.6, 0.61, 0.62]).rows]
    figure = plot_differences({"balanced_accuracy": compare_levels(two, rows, score="balanced_accuracy")})
    assert figure is not None
    zero, pairs, interval, mean = figure.axes[0].lines
    assert list(zero.get_xdata()) == [0, 0]
    np.testing.assert_allclose(pairs.get_xdata(), [10, 11, 12])
    low, high = interval.get_xdata()
    assert 9.99 < low < 11 < high < 12.01 and mean.get_xdata()[0] == pytest.approx(11)
    assert figure.axes[0].get_yticklabels()[0].get_text() == "n: 2 - 1"
    assert plot_differences({"balanced_accuracy": []}) is None


def test_the_gain_by_right_pseudo_labels_is_fitted_over_the_trials_and_tested_over_the_seeds() -> None:
    labels = {"none": {}, "bad": {"imb_factor_unlabel": 1}, "fair": {"wrong_share": 0.3}, "true": {"wrong_share": 0}}
    found = experiment({"amount": {"1x": {}}, "labels": labels})
    # Gains of -2, 1 and 4 points at 40, 70 and 100 % right: 1 point more for 10 % more, and zero at 60 %.
    rows = [
        {
            "levels": {"amount": "1x", "labels": level}, "seed": seed, "pseudo_label_accuracy": correct,
            "pseudo_label_head_precision": correct and 1.0, "pseudo_label_tail_precision": correct,
            "balanced_accuracy": 0.5 + seed / 100 + gain, "class_counts": [9, 5],
            "confusion": confusion(head_recall=0.7, tail_recall=0.3 + (correct or 0) / 2),
        }
        for level, correct, gain in (("none", None, 0), ("bad", 0.4, -0.02), ("fair", 0.7, 0.01), ("true", 1, 0.04))
        for seed in (3, 5)
    ]  # fmt: skip
    gains = label_gains(found, rows)
    assert [(gain.setting, gain.seed, gain.correct) for gain in gains[:2]] == [(("1x",), 3, 0.4), (("1x",), 5, 0.4)]
    fit = fit_gains(gains)
    assert fit is not None
    assert (fit.slope, fit.zero) == (pytest.approx(0.1), pytest.approx(0.6))
    assert gain_sentence("1x", fit).startswith(
        "1x: ten points more right pseudo-labels go with +1.0 points of accuracy"
    )
    assert gain_sentence("1x", fit).endswith("labels alone are as good at 60 % right.")
    figure = plot_label_gains(gains)
    assert figure is not None
    _, dots, line = figure.axes[0].lines
    np.testing.assert_allclose(sorted(dots.get_ydata()), [-2, -2, 1, 1, 4, 4], atol=1e-9)
    np.testing.assert_allclose(line.get_xydata(), [[40, -2], [100, 4]], atol=1e-9)
    assert fit_gains(gains[:4]) is None and plot_label_gains([]) is None
    # Beside it the thresholds: p - q is 0.6, 0.3 and 0.
    dots, line, theorem = figure.axes[1].lines
    np.testing.assert_allclose(sorted(set(dots.get_xdata())), [0, 0.3, 0.6], atol=1e-9)
    np.testing.assert_allclose(line.get_xdata(), [0, 0.6], atol=1e-9)
    np.testing.assert_allclose(*zip(*theorem.get_xydata(), strict=True))
    # Where theorem 1 is known of the second setting alone, that keeps its colour, and both are named.
    older = [LabelGain(("0.5x",), "bad", seed, seed / 9, 0.1) for seed in range(3)]
    figure = plot_label_gains([*older, *gains])
    assert figure is not None
    colour_of = [{line.get_label(): line.get_color() for line in axes.lines} for axes in figure.axes]
    assert colour_of[0]["1x"] == colour_of[1]["1x"] != colour_of[0]["0.5x"] and "0.5x" not in colour_of[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.5x", "1x", "theorem 1"]
    unknown = [row | {"pseudo_label_head_precision": None} for row in rows]
    figure = plot_label_gains(label_gains(found, unknown))
    assert figure is not None and len(figure.axes) == 1


def confusion(*, head_recall: float, tail_recall: float, num: int = 1000) -> list[dict[str, int]]:
    cells = {
        (0, 0): head_recall, (0, 1): 1 - head_recall, (1, 1): tail_recall, (1, 0): 1 - tail_recall,
    }  # fmt: skip
    return [
        {"target": target, "predicted": predicted, "count": round(num * share)}
        for (target, predicted), share in cells.items()
    ]


def test_theorem_1_stands_beside_the_trials_in_words_and_in_a_table() -> None:
    known = {"predicted": 0.1, "measured": 0.3, "before": -0.2}
    gains = [
        LabelGain(("1x",), "bad", seed, correct, 0.01 * seed, **known | {"predicted": correct / 2, "measured": correct})
        for correct in (0.4, 0.6, 0.8)
        for seed in (1, 2)
    ]
    section = right_labels_section(gains)
    assert section[0] == "## What right pseudo-labels are worth"
    assert "| 1x | bad | 60.0 | +1.5 | +0.30 | +0.60 | -0.20 |" in section[-2]
    assert section[-1] == (
        "- 1x: 0.1 more of p - q goes with a threshold +0.20 further (p = 0.000 over the seeds); by theorem 1 it would "
        "be +0.10."
    )
    assert right_labels_section([]) == []
    assert len(right_labels_section([LabelGain(("1x",), "bad", 1, 0.5, 0.1)] * 2)) == 0


def test_one_point_is_no_curve() -> None:
    (amount,) = numeric_axes(experiment({"D_U": AMOUNTS}))
    assert plot_curve(amount, [arm({"D_U": "none"}, [0.1]), arm({"D_U": "5x"}, [0.2])]) is None


def test_the_arms_that_are_named_are_shown_and_without_names_the_first_twelve() -> None:
    levels = {str(i): {"epochs": i} for i in range(1, 15)}
    arms = [arm({"n": level}, [0.5]) for level in levels]
    assert shown_arms(experiment({"n": levels}), arms) == arms[:12]
    assert shown_arms(experiment({"n": levels}, shown=[{"n": "14"}, {"n": "2"}]), arms) == [arms[13], arms[1]]


def test_bars_go_from_head_to_tail_and_an_absent_class_has_none() -> None:
    # Class b has 40 labels, but its accuracy is unknown: one bar, of a, in the second place.
    figure = plot_bars([arm({"n": "1"}, [0.2, 0.4])])
    assert figure is not None
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "a"]
    (bar,) = axes.patches
    assert bar.get_x() + bar.get_width() / 2 == 1 and bar.get_height() == pytest.approx(30)


def test_the_report_has_curves_and_maps_where_there_are_any() -> None:
    of_amounts = experiment({"D_U": AMOUNTS})
    rows = [row for level in AMOUNTS for row in arm({"D_U": level}, [0.2, 0.4]).rows]
    plain = ["differences", "arms", "curve_1", "classes", "bars", "confusion"]
    assert list(report_figures(of_amounts, rows)) == plain
    positions = np.zeros((3, 2))
    one = FeatureMap("none, seed 3", positions, np.array([0, 1, 1]), ["a", "b"], ["few", "many"])
    figures = report_figures(of_amounts, rows, [one])
    assert list(figures) == [*plain, "maps"]
    assert figures["curve_1"].caption == "D_U: accuracy by unlabeled images per labelled one"


def test_of_many_classes_a_map_shows_the_shot_groups() -> None:
    names = [f"class {i}" for i in range(30)]
    groups = ["many"] * 10 + ["few"] * 20
    figure = plot_maps([FeatureMap("t", np.arange(6.0).reshape(3, 2), np.array([0, 5, 29]), names, groups)])
    assert figure is not None
    dots = [collection.get_offsets() for collection in figure.axes[0].collections]
    assert [len(of_group) for of_group in dots] == [2, 0, 1]  # many, medium, few


def test_a_map_is_of_the_shown_arms_first_seed_alone() -> None:
    found = experiment({"D_U": AMOUNTS}, options={"dataset": "digits"}, shown=[{"D_U": "5x"}])
    trials = plan(found, source="x", common={})
    mapped = [trial.trial for trial in trials if is_mapped(found, trial)]
    assert [(trial.levels["D_U"], trial.options["seed"]) for trial in mapped] == [("5x", 3)]


def test_maps_are_made_from_the_written_features_and_are_deterministic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (20, 4)), rng.normal(9, 1, (20, 4))]).astype(np.float32)
    lists = pa.array(features.tolist(), pa.list_(pa.float32()))
    labels = np.repeat([0, 1], 20)
    file = features_file(tmp_path, "e", "t1")
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"label": labels, "features": lists}), file)
    names = {"class_names": ["a", "b"], "shot_groups": ["few", "many"]}
    rows = [{"trial": trial, "levels": {"D_U": "5x"}, "seed": 3, **names} for trial in ("t0", "t1")]

    (one,), (again,) = read_maps(tmp_path, "e", rows), read_maps(tmp_path, "e", rows)

    assert one.title == "5x, seed 3" and one.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(one.positions, again.positions)
    # Two far clusters stay apart: each point's nearest other is of its class.
    distances = np.linalg.norm(one.positions[:, None] - one.positions[None], axis=2) + np.diag(np.full(40, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).all()
