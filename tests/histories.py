"""What trainings may say in the course of their lives, drawn at random."""

import random

from hypothesis import strategies as st

from longtail.streaming.events.schema import (
    END_STATES,
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
)
from tests.events import an_event


def events_of(
    run: str,
    *,
    epochs: int,
    seed: int,
    attempt: int = 1,
    first_epoch: int = 1,
    eval_every: int = 1,
    num_classes: int = 3,
    num_epochs: int = 9,
    empty_classes: bool = False,
    ends: tuple[str, ...] = (),
) -> list[Event]:
    """What an attempt of a training of up to three classes may say, numbers drawn by the seed.

    The held-out splits are measured in every eval_every-th epoch only, the last class is absent from time to time, and
    sometimes a split has no images of the classes, although they are predicted; with empty_classes, or of one class.

    ends: the states that it reports in the end, by a clock that is behind
    """
    draw = random.Random(seed)
    of_run = {"run": run, "attempt": attempt}
    of_state = {**of_run, "num_epochs": num_epochs}
    found: list[Event] = [an_event(RunEvent, **of_state, epoch=first_epoch - 1, emitted_at=float(seed))]
    for epoch in range(first_epoch, epochs + 1):
        # The clock jumps back and forth.
        now = seed + draw.choice([-40.0, 0.0, 40.0]) + epoch
        at = {**of_run, "epoch": epoch, "emitted_at": now}
        absent = draw.choice([num_classes - 1, num_classes])
        for split in ("train", "val", "test"):
            if split != "train" and epoch % eval_every:
                continue
            largest = draw.choice([20, 20, 20, 0])
            for c, group in list(enumerate(("many", "medium", "few")))[:absent]:
                support = draw.choice([largest, largest, 0]) if empty_classes else largest
                counts = {
                    "support": support,
                    "correct": draw.randint(0, support),
                    "predicted": draw.choice([0, draw.randint(0, 40)]),
                }
                # Powers of two add up to the same in any order.
                sums = {"loss_sum": draw.randint(0, 64) / 4, "confidence_sum": draw.randint(0, 80) / 4}
                of_class = {"num_epochs": num_epochs, "split": split, "class_id": c, "shot_group": group}
                found.append(an_event(ClassEvent, **at, **of_class, **counts, **sums))
            if split != "train":
                cells = {(draw.randint(0, 2), draw.randint(0, 2)) for _ in range(3)}
                found += [
                    an_event(
                        ConfusionEvent, **at, split=split, true_class=t, predicted_class=p, count=draw.randint(1, 9)
                    )
                    for t, p in sorted(cells)
                ]
        found.append(an_event(StepEvent, **at, step=draw.randint(1, 9), loss=draw.choice([0.5, 0.25, float("nan")])))
        found.append(an_event(RunEvent, **{**at, "num_epochs": num_epochs, "state": "epoch_done"}))
    for number, state in enumerate(ends):
        found.append(an_event(RunEvent, **of_state, state=state, epoch=epochs, emitted_at=seed - 50.0 - number))
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """The events of two runs: attempts that shrink, other classes, splits measured rarely, clocks that jump, labellings
    that are repeated with fewer classes."""
    events: list[Event] = []
    small = st.integers(1, 3)
    for run in ("base", "semi"):
        for attempt in range(1, 1 + draw(small)):
            epochs = draw(st.integers(1, 6))
            events += events_of(
                run,
                attempt=attempt,
                first_epoch=draw(st.integers(1, epochs)),
                epochs=epochs,
                num_epochs=draw(st.integers(epochs, 9)),
                seed=draw(st.integers(100, 300)),
                eval_every=draw(small),
                num_classes=draw(small),
                empty_classes=True,
                ends=tuple(draw(st.permutations(END_STATES))[: draw(st.integers(0, 3))]),
            )
        for labelling in range(draw(st.integers(0, 3))):
            at = {"run": run, "round": draw(st.integers(1, 2)), "emitted_at": 1000.0 + labelling}
            events += [an_event(PseudoLabelEvent, **at, class_id=c, labelled_count=9 - c) for c in range(draw(small))]
        for number in range(draw(st.integers(0, 4))):
            at = {"run": run, "stream": draw(st.sampled_from("ab")), "emitted_at": 2000.0 + number}
            at |= {"window_start": 600.0 * draw(small)}
            counts = {"predicted": 100 * draw(small), "reference_predicted": draw(st.sampled_from((None, 100)))}
            events += [an_event(PredictionEvent, **at, class_id=c, **counts) for c in range(draw(small))]
    return events
