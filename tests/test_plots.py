"""Figures of the result tables for notebooks: what they draw of small tables by hand."""

import pandas as pd

from longtail.streaming.tables.plots import pseudo_label_figure


def test_pseudo_labels_have_a_line_a_class_for_precision_and_for_recall() -> None:
    scores = pd.DataFrame(
        {
            "epoch": [2, 1, 1, 2],
            "class_id": [0, 0, 1, 1],
            "class_name": ["head", "head", "tail", "tail"],
            "precision": [0.5, 0.25, None, 1.0],
            "recall": [0.75, 0.5, 0.0, 0.125],
        }
    )
    precision, recall = pseudo_label_figure(scores).axes
    assert (precision.get_ylabel(), recall.get_ylabel()) == ("precision %", "recall %")
    assert [line.get_label() for line in recall.lines] == ["head", "tail"]
    assert [list(line.get_ydata()) for line in recall.lines] == [[50, 75], [0, 12.5]]
    assert list(precision.lines[0].get_ydata()) == [25, 50]
    assert list(precision.lines[1].get_xdata()) == [1, 2] and pd.isna(precision.lines[1].get_ydata()[0])
