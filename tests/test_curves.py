"""Loss and throughput of a run on the live page, over epochs, steps or time."""

import pyarrow as pa
import pytest

from longtail.streaming.dashboard.curves import curve_figure, curves_of
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import STEP, TIME, Selection
from tests.result_rows import class_rows, table
from tests.test_dashboard_page import reader_of

EPOCHS = table(
    "epochs",
    *(
        {"split": split, "epoch": e, "loss": loss / e, "images_per_second": 100.0 * e, "emitted_at": 1000.0 + 60 * e,
         "epoch_seconds": 60.0}
        for split, loss in (("test", 4.0), ("train", 2.0))
        for e in (1, 2)
    ),
)  # fmt: skip
STEPS = table(
    "steps", *({"epoch": e, "step": s, "num_steps": 10, "loss": e + s / 100} for e in (2, 1) for s in (5, 10))
)


def drawn(score: str, over: str) -> dict[str, tuple[list[float], list[float]]]:
    curves = curves_of(EPOCHS, STEPS, score, over=over)
    return {curve.split: (curve.x.tolist(), curve.values.tolist()) for curve in curves}


def test_the_loss_of_each_split_goes_over_epochs() -> None:
    assert drawn("loss", "") == {"train": ([1, 2], [2, 1]), "test": ([1, 2], [4, 2])}


def test_over_steps_the_training_has_its_steps_and_the_others_the_ends_of_their_epochs() -> None:
    assert drawn("loss", STEP) == {"train": ([5, 10, 15, 20], [1.05, 1.1, 2.05, 2.1]), "test": ([10, 20], [4, 2])}


def test_time_is_minutes_since_the_first_epoch_began() -> None:
    assert drawn("images_per_second", TIME)["train"] == ([1, 2], [100, 200])


def test_curves_are_smoothed_and_have_a_logarithmic_axis_when_asked_to() -> None:
    epochs = table("epochs", *({"epoch": e, "loss": float(e)} for e in range(1, 21)))
    curves = curves_of(epochs, STEPS.slice(0, 0), "loss", over="")
    plain, smooth = (
        curve_figure(curves, over="", is_logarithmic=s, is_smoothed=s, form="%{y}", view="v") for s in (False, True)
    )
    assert list(plain.data[0].y)[-1] == 20 and list(smooth.data[0].y)[-1] == 19.5  # of the last two
    assert (plain.layout.yaxis.type, smooth.layout.yaxis.type) == ("linear", "log")


@pytest.mark.parametrize("steps", [STEPS, STEPS.slice(0, 0)])
def test_the_page_has_the_curves_and_offers_steps_where_there_are_some(steps: pa.Table) -> None:
    tables = {"runs": table("runs", {}), "epochs": EPOCHS, "class_epochs": class_rows({0: [0.5]}), "steps": steps}
    state = page_state(reader_of(tables), Selection(over=STEP))
    assert len(state.figures["loss"].data) == 2 and len(state.figures["speed"].data) == 1
    assert len(state.figures["speed"].data[0].x) == (4 if len(steps) else 2)
    assert (">steps<" in state.html["note-curves"]) == bool(len(steps))
    assert "log=1" in state.html["note-curves"] and "smooth=1" in state.html["note-curves"]


def test_an_axis_from_zero_has_room_for_points_on_it_and_no_tick_below() -> None:
    epochs = table("epochs", *({"epoch": e, "learning_rate": rate} for e, rate in ((1, 0.1), (2, 0.0))))
    state = page_state(
        reader_of({"runs": table("runs", {}), "epochs": epochs, "class_epochs": class_rows({0: [0.5, 0.5]})}),
        Selection(),
    )
    low, high = state.figures["learning_rate"].layout.yaxis.range
    assert -0.01 < low < 0 and 0.1 < high < 0.11
