"""The charts of the live page: small tables by hand, and what must be drawn of them."""

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest

from longtail.streaming.dashboard.class_axis import class_axis
from longtail.streaming.dashboard.class_figures import (
    accuracy_lines,
    accuracy_map,
    class_accuracy,
    confusion_matrix,
    confusion_shares,
    label_bias,
    mean_of_last,
    pseudo_labels,
)
from longtail.streaming.dashboard.prediction_figures import (
    latest_stream,
    latest_window,
    prediction_shares,
    prediction_windows,
    window_note,
)
from longtail.streaming.dashboard.run_figures import group_lines
from longtail.streaming.dashboard.shown_run import head_to_tail
from longtail.streaming.dashboard.style import NEUTRAL, RUN_COLOURS, chart_name, head_tail_colour
from tests.result_rows import class_rows, table

NAN = float("nan")


def classes(*rows: dict[str, object]) -> pa.Table:
    return table("class_epochs", *rows)


THREE = classes(
    {"class_id": 0, "class_name": "tail", "shot_group": "few", "train_count": 2},
    {"class_id": 1, "class_name": "head", "shot_group": "many", "train_count": 900},
    {"class_id": 2, "class_name": "middle", "shot_group": "medium", "train_count": 30},
)


def test_classes_go_from_head_to_tail() -> None:
    axis = class_axis(THREE, max_rows=10)

    assert axis.class_ids.tolist() == [1, 2, 0]
    assert axis.names == ["head", "middle", "tail"]
    assert axis.counts == ["900", "30", "2"]
    assert axis.colours == [head_tail_colour(0), head_tail_colour(0.5), head_tail_colour(1)]
    assert axis.ticks() == {
        "tickvals": [0, 1, 2],
        "ticktext": ["<b>head  </b>900", "<b>middle  </b>30", "<b>tail  </b>2"],
    }


def test_one_image_is_one_image() -> None:
    rows = [{"class_id": i, "class_name": f"c{i}", "shot_group": "few", "train_count": 1 + (i == 0)} for i in range(9)]
    assert "<br>2 labelled images, few" in class_axis(classes(*rows), max_rows=10).hovers[0]
    assert "<br>1 labelled image, few" in class_axis(classes(*rows), max_rows=10).hovers[8]
    banded = class_axis(classes(*rows), max_rows=3)
    assert [label for label, *_ in head_to_tail(banded, are_lines=False)] == [
        "head: 2–1 images", "1 image", "tail: 1 image"
    ]  # fmt: skip


def test_classes_of_one_size_go_by_their_number() -> None:
    same = classes(*({"class_id": class_id, "train_count": 7} for class_id in (2, 0, 1)))
    assert class_axis(same, max_rows=10).class_ids.tolist() == [0, 1, 2]


def test_pseudo_labels_do_not_move_a_class() -> None:
    semi = classes(
        {"class_id": 0, "train_count": 502, "pseudo_label_count": 500},
        {"class_id": 1, "train_count": 30, "pseudo_label_count": 0},
        {"class_id": 2, "train_count": 10, "pseudo_label_count": None},
    )
    axis = class_axis(semi, max_rows=10)
    assert axis.class_ids.tolist() == [1, 2, 0]
    assert axis.counts == ["30", "10", "2"]


def test_many_classes_share_bands_of_like_size_and_head_and_tail_are_named() -> None:
    rows = [{"class_id": i, "class_name": f"c{i}", "train_count": 2000 - i} for i in range(1000)]
    axis = class_axis(classes(*rows), max_rows=100)

    assert len(axis) == 100 and axis.is_banded
    assert np.bincount(axis.band).tolist() == [10] * 100
    assert axis.counts[0] == "2,000–1,991" and axis.counts[-1] == "1,010–1,001"
    ticks = axis.ticks()
    assert (ticks["tickvals"][0], ticks["tickvals"][-1]) == (0, 99)
    assert ticks["ticktext"][0] == "<b>head  </b>2,000–1,991" and ticks["ticktext"][-1] == "<b>tail  </b>1,010–1,001"
    assert len(ticks["tickvals"]) < 12
    assert "mean of 10 classes" in axis.hovers[0] and "c0" in axis.hovers[0] and "c9" in axis.hovers[0]


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        ({"group": "few"}, [0]),
        ({"name_part": "ID"}, [2]),
        ({"name_part": "a"}, [1, 0]),
        ({"group": "few", "name_part": "x"}, []),
    ],
)
def test_a_selection_leaves_some_classes_in_their_colour(selection: dict[str, str], shown: list[int]) -> None:
    axis = class_axis(THREE, max_rows=10, **selection)
    assert axis.class_ids.tolist() == shown
    places = {1: 0.0, 2: 0.5, 0: 1.0}
    assert axis.positions == [places[class_id] for class_id in shown]


def test_a_name_part_is_text_and_no_pattern() -> None:
    dotted = classes({"class_name": "a.b"}, {"class_id": 1, "class_name": "axb"})
    assert class_axis(dotted, max_rows=10, name_part="a.b").class_ids.tolist() == [0]


def test_a_band_s_value_is_the_mean_of_its_classes_that_have_one() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.7], 2: [0.1], 3: [None]}), max_rows=2)
    means = axis.means_of_classes(np.array([3, 2, 1, 0, 77]), np.array([NAN, 0.1, 0.7, 0.5, 9.0]))
    assert means == pytest.approx([0.6, 0.1])


def test_the_map_has_a_row_a_class_a_column_an_epoch_and_holes_without_images() -> None:
    rows = class_rows({0: [0.25, 0.5], 1: [None, 1.0]})
    figure = accuracy_map(rows, class_axis(rows.filter(rows["epoch"].to_numpy() == 2), max_rows=10), view="v")

    (cells,) = figure.data
    assert np.array(cells.z) == pytest.approx(np.array([[0.25, 0.5], [NAN, 1.0]]), nan_ok=True)
    assert (list(cells.x), list(cells.y), cells.zmin, cells.zmax) == ([1, 2], [0, 1], 0, 1)
    assert figure.layout.yaxis.autorange == "reversed"  # the head is on top
    assert list(figure.layout.yaxis.ticktext) == ["<b>class 0  </b>100", "<b>class 1  </b>99"]


def test_the_map_puts_an_epoch_that_came_late_in_its_place() -> None:
    rows = class_rows({0: [0.1, 0.2, 0.3]}).take([2, 0, 1])
    (cells,) = accuracy_map(rows, class_axis(rows.slice(0, 1), max_rows=10), view="v").data
    assert (list(cells.x), np.array(cells.z).tolist()) == ([1, 2, 3], [[0.1, 0.2, 0.3]])


def test_lines_go_from_the_head_s_colour_to_the_tail_s() -> None:
    rows = class_rows({0: [0.5, 0.75], 1: [0.25, None]})
    head, tail = accuracy_lines(rows, class_axis(rows.take([0, 2]), max_rows=5), view="v").data
    assert (head.line.color, tail.line.color) == (head_tail_colour(0), head_tail_colour(1))
    assert list(head.y) == [0.5, 0.75] and list(tail.y) == pytest.approx([0.25, NAN], nan_ok=True)


def test_a_long_line_is_averaged_over_the_last_epochs_and_holes_stay() -> None:
    values = np.array([1.0, 0.0, NAN, 1.0, 0.5])
    assert mean_of_last(values, 2) == pytest.approx([1.0, 0.5, NAN, 1.0, 0.75], nan_ok=True)
    assert mean_of_last(values, 1) == pytest.approx(values, nan_ok=True)


def test_the_line_of_a_long_training_has_its_own_values_under_the_pointer() -> None:
    rows = class_rows({0: [0.0, 1.0] * 20})
    (line,) = accuracy_lines(rows, class_axis(rows.slice(0, 1), max_rows=5), view="v").data
    assert list(line.customdata) == [0.0, 1.0] * 20
    assert list(line.y[3:]) == [0.5] * 37  # over the last 4


def test_the_last_accuracies_have_their_intervals_unless_classes_share_a_row() -> None:
    latest = classes(
        {"class_id": 0, "train_count": 9, "accuracy": 0.8, "accuracy_low": 0.375, "accuracy_high": 0.96},
        {"class_id": 1, "train_count": 99, "accuracy": None, "accuracy_low": None, "accuracy_high": None},
    )

    (points,) = class_accuracy(latest, class_axis(latest, max_rows=10), view="v").data
    (band,) = class_accuracy(latest, class_axis(latest, max_rows=1), view="v").data

    np.testing.assert_allclose(points.x, [NAN, 0.8])
    np.testing.assert_allclose(points.error_x.array, [NAN, 0.16])
    np.testing.assert_allclose(points.error_x.arrayminus, [NAN, 0.425])
    assert list(points.text) == ["", " (95 %: 37.5% to 96.0%)"]
    assert band.x.tolist() == [0.8] and band.error_x.array is None and list(band.text) == [""]
    (heat,) = accuracy_map(latest, class_axis(latest, max_rows=10), view="v").data
    assert heat.text.tolist() == [[""], [" (95 %: 37.5% to 96.0%)"]] and "%{text}" in heat.hovertemplate


def test_label_bias_sets_predicted_beside_true_shares() -> None:
    latest = classes(
        {"class_id": 0, "train_count": 90, "true_share": 0.5, "predicted_share": 0.875},
        {"class_id": 1, "train_count": 9, "true_share": 0.5, "predicted_share": 0.125},
    )
    bars, marks = label_bias(latest, class_axis(latest, max_rows=10), view="v").data
    assert list(bars.x) == [0.875, 0.125] and list(marks.x) == [0.5, 0.5]
    assert list(bars.marker.color) == [head_tail_colour(0), head_tail_colour(1)]


def confusion(*cells: tuple[int, int, int]) -> pa.Table:
    return table("confusion", *({"true_class": t, "predicted_class": p, "count": n} for t, p, n in cells))


def test_a_row_of_the_confusion_matrix_is_shares_of_the_true_class() -> None:
    axis = class_axis(THREE, max_rows=10)  # rows: 1, 2, 0
    shares = confusion_shares(confusion((1, 1, 8), (0, 1, 3), (0, 0, 1)), axis)
    assert shares == pytest.approx(np.array([[1, 0, 0], [NAN, NAN, NAN], [0.75, 0, 0.25]]), nan_ok=True)


def test_the_confusion_of_a_selection_counts_what_goes_elsewhere() -> None:
    axis = class_axis(THREE, max_rows=10, group="few")
    assert confusion_shares(confusion((0, 1, 3), (0, 0, 1), (1, 0, 5)), axis) == pytest.approx(np.array([[0.25]]))


def test_the_confusion_of_bands_adds_up() -> None:
    rows = class_rows({0: [0.5], 1: [0.5], 2: [0.5], 3: [0.5]})
    shares = confusion_shares(confusion((0, 1, 1), (1, 2, 1), (2, 2, 3), (3, 0, 1)), class_axis(rows, max_rows=2))
    assert shares == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))


def test_a_cell_says_its_share_and_an_empty_one_nothing() -> None:
    figure = confusion_matrix(confusion((1, 1, 8), (0, 1, 3), (0, 0, 1)), class_axis(THREE, max_rows=10), view="v")
    cells, numbers = figure.data
    placed = list(zip(numbers.y, numbers.x, numbers.text, numbers.textfont.color, strict=True))
    assert placed == [(0, 0, "100", "#000000"), (2, 0, "75", "#000000"), (2, 2, "25", "#000000")]
    assert np.isnan(np.array(cells.z)[0, 1])
    assert list(figure.layout.xaxis.ticktext) == ["head", "middle", "tail"]


LABELLED = table(
    "pseudo_labels",
    {"class_id": 0, "labelled_count": 100, "pseudo_label_count": 300, "mean_confidence": 0.75},
    {"class_id": 1, "labelled_count": 10, "pseudo_label_count": 0}
    | dict.fromkeys(("mean_confidence", "confidence_p10", "confidence_p90")),
)


def test_pseudo_labels_stand_beside_labels_with_their_confidence() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.5]}), max_rows=10)
    labels, pseudo, confidence = pseudo_labels(LABELLED, axis, view="v").data
    assert list(labels.x) == [100, 10] and list(pseudo.x) == [300, 0]
    assert list(confidence.x) == pytest.approx([0.75, NAN], nan_ok=True)
    assert (confidence.error_x.array[0], confidence.error_x.arrayminus[0]) == (pytest.approx(0.2), pytest.approx(0.25))


def test_the_round_before_is_hollow() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.5]}), max_rows=10)
    before = table("pseudo_labels", {"class_id": 0, "mean_confidence": 0.5})
    *_, hollow = pseudo_labels(LABELLED, axis, view="v", before=before).data
    assert list(hollow.x) == pytest.approx([0.5, NAN], nan_ok=True)
    assert hollow.marker.symbol == "circle-open"


def test_without_confidences_there_is_no_chart_of_them() -> None:
    axis = class_axis(class_rows({0: [0.5]}), max_rows=10)
    counts = table("pseudo_labels", {"mean_confidence": None})
    assert [trace.type for trace in pseudo_labels(counts, axis, view="v").data] == ["bar", "bar"]


def predicted(window: int, counts: tuple[int, int], *, stream: str = "a", **changes: object) -> list[dict]:
    share = {"estimated_share": 0.75, "share_low": 0.5, "share_high": 0.875}
    return [
        {"window_start": 600.0 * window, "class_id": c, "train_count": (30, 10)[c], "predicted": counts[c],
         "confidence_sum": counts[c] * 0.5, "novel": counts[c] // 10, "stream": stream, **share, **changes}
        for c in range(2)
    ]  # fmt: skip


def test_a_window_of_predictions_stands_beside_the_training_with_its_estimated_shares() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.5]}), max_rows=10)
    rows = table("predictions", *predicted(3, (0, 9), stream="b"), *predicted(4, (1, 1)), *predicted(5, (80, 20)))
    stream = latest_stream(rows)
    bars, ticks, points = prediction_shares(latest_window(stream), axis, view="v").data
    assert list(bars.x) == [0.8, 0.2] and list(ticks.x) == [0.75, 0.25] and list(points.x) == [0.75, 0.75]
    assert (points.error_x.array[0], points.error_x.arrayminus[0]) == (0.125, 0.25)
    confidence, novel = prediction_windows(stream, view="v").data
    assert list(confidence.y) == [0.5, 0.5] and list(novel.y) == [0, 0.1]
    assert "a, window of 1970-01-01 00:50 UTC (1 other streams have earlier ones), 100 images." in window_note(
        stream, num_streams=2
    )


def test_of_a_window_without_predictions_and_estimates_there_are_no_numbers() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.5]}), max_rows=10)
    unknown = dict.fromkeys(("estimated_share", "share_low", "share_high"))
    stream = table("predictions", *predicted(1, (0, 0), **unknown))
    bars, _, points = prediction_shares(stream, axis, view="v").data
    assert np.isnan([*bars.x, *points.x]).all()
    assert [len(line.x) for line in prediction_windows(stream, view="v").data] == [0, 0]


def test_a_group_without_classes_has_no_line() -> None:
    figure = group_lines(table("epochs", {"epoch": 1}, {"epoch": 2, "few_shot_accuracy": 0.2}), view="v")
    assert {line.name: list(line.y) for line in figure.data} == {
        "all classes": [0.5, 0.5], "many-shot": [0.9, 0.9], "few-shot": [0.1, 0.2],
    }  # fmt: skip


def test_the_reader_s_zoom_stays_while_the_view_does() -> None:
    rows = class_rows({0: [0.5]})
    axis = class_axis(rows, max_rows=10)
    figures = [accuracy_map(rows, axis, view="base test"), accuracy_lines(rows, axis, view="base test")]
    assert {figure.layout.uirevision for figure in figures} == {"base test"}


@pytest.mark.parametrize("name", ["<b>x</b>", '<a href="https://example.org">x</a>', "a & b"])
def test_a_name_is_never_markup(name: str) -> None:
    shown = chart_name(name, 100)
    assert "<" not in shown and shown.count("&") == name.count("<") + name.count(">") + name.count("&")


def test_a_long_name_is_cut() -> None:
    assert chart_name("x" * 30, 10) == "x" * 9 + "…"


def luminance(colour: str) -> float:
    """Relative luminance of sRGB (WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#ffffff", "#181c22"])  # a card, in the light and in the dark
@pytest.mark.parametrize("colour", [*map(head_tail_colour, (0, 0.25, 0.5, 0.75, 1)), NEUTRAL, *RUN_COLOURS])
def test_every_colour_can_be_seen_on_light_and_on_dark_ground(colour: str, ground: str) -> None:
    lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) > 2.8


def test_every_figure_can_be_sent() -> None:
    rows = class_rows({0: [0.5, None], 1: [0.5, 0.5]})
    axis = class_axis(rows.filter(rows["epoch"].to_numpy() == 1), max_rows=10)
    for figure in (accuracy_map(rows, axis, view="v"), accuracy_lines(rows, axis, view="v")):
        assert isinstance(figure, go.Figure) and "NaN" not in figure.to_json()
