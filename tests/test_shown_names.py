"""Class names of any characters, as terminals and figures show them."""

import io

import pytest
from matplotlib.figure import Figure

from longtail.conf.base.errors import UserError
from longtail.conf.base.names import check_class_names, figure_label, with_examples
from longtail.conf.base.shown_text import printable
from longtail.spark_jobs.display.comparison import print_comparison
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.label_statistics import print_label_statistics
from longtail.spark_jobs.display.tables import alert_lines, per_class_table

NAMES = ["[/b]", "[red]x[/red]", ":cat:", "{x}", "a\\b", "~", "<b>", "$x", "a$b$c", "_y", "%s", "日本"]
SIZES = {"train": [3] * len(NAMES), "test": [1] * len(NAMES)}


def test_markup_in_a_class_name_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"num_images": 1, "rho": 1.0, "normalised_entropy": 1.0, "gini": 0.0, "num_partitions": 1}
    print_label_statistics(SIZES, ["few"] * len(NAMES), NAMES, {"train": found, "test": found}, title="[/x]")
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in NAMES) and "[/x]" in shown
    scores = {"accuracy": 0.5, "balanced_accuracy": 0.5, "class_accuracy": [0.5] * len(NAMES)}
    scores |= {f"{group}_shot_accuracy": 0.5 for group in ("many", "medium", "few")}
    columns = {"shot_groups": ["few"] * len(NAMES), "class_counts": [1] * len(NAMES), "splits": {"test": scores}}
    result = {"class_names": NAMES, **columns}
    print_comparison(result, result)
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in NAMES)


def test_figures_show_every_class_name_as_it_is() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    for name in NAMES[:-1]:
        axes.scatter([0], [0], label=figure_label(name))
    axes.set_xticks(range(len(NAMES) - 1), [figure_label(name) for name in NAMES[:-1]])
    legend = axes.legend()
    figure.savefig(io.BytesIO(), format="png")
    assert [text.get_text().strip().replace(r"\$", "$") for text in legend.get_texts()] == NAMES[:-1]


def test_names_that_control_the_terminal_are_shown_as_escapes() -> None:
    assert printable("a\nb\x1b[31m\udce9 é日本") == r"a\nb\x1b[31m\udce9 é日本"
    assert str(UserError("no \x1b]0;title\x07 file\nsecond line")) == r"no \x1b]0;title\x07 file second line"
    assert with_examples(["a", "b\n", "c", "d", "e"]) == r"a, b\n, c and 2 more"


def test_events_of_others_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"class_id": 0, "class_name": "[b]\x1bc", "shot_group": "few", "train_count": 1, "accuracy": 0.5}
    row |= {
        "accuracy_low": 0.25,
        "accuracy_high": 0.75,
        "accuracy_change": None,
        "best_accuracy": 0.5,
        "true_share": 1.0,
        "predicted_share": 1.0,
    }
    console().print(per_class_table([row]))
    alerts = [{"run": "r", "split": "te\nst", "message": "\x1b]0;x\x07"}]
    console().print(*alert_lines(alerts, run="r"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and r"[b]\x1bc" in shown and r"! te\nst: \x1b]0;x\x07" in shown


def test_class_names_are_text() -> None:
    check_class_names(NAMES, where="x")
    for name in ("", " ", "a\tb", "\x7f", "\x9b31m", "\u2066x"):
        with pytest.raises(UserError, match="^the table has "):
            check_class_names([name], where="the table")
