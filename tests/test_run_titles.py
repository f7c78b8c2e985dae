"""What the live page calls runs, and which of their options differ."""

import json
from typing import Any

import pytest

from longtail.conf.options.base import is_in_run_name
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.streaming.dashboard.comparison import compared_arms
from longtail.streaming.dashboard.configurations import SOURCE_OPTIONS, WHERE_IT_RUNS, differing, without_seed
from longtail.streaming.dashboard.notes import NO_NOTES, RunNotes
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.titles import MAX_PARTS, run_titles
from longtail.streaming.tables.descriptions import RunDescription
from tests.result_rows import table
from tests.test_dashboard_page import with_tables

CIFAR = {"dataset": "cifar10", "loss_type": "CE", "train_rule": "None", "imb_factor": 0.01, "seed": 0, "epochs": 200}


def titles(*changes: dict[str, Any], phase: str = "train") -> list[str]:
    """Of runs with these options."""
    rows = [
        {"run": f"run{i}", "phase": phase, "configuration": json.dumps({**CIFAR, **change})}
        for i, change in enumerate(changes)
    ]
    return list(run_titles(rows).values())


def test_a_title_says_what_differs_and_nothing_else() -> None:
    ldam = {"loss_type": "LDAM", "train_rule": "DRW"}
    assert titles(ldam, {**ldam, "seed": 3}, {"imb_factor": 0.02}) == [
        "cifar10, labels alone · LDAM · DRW · rho 100 · seed 0",
        "cifar10, labels alone · LDAM · DRW · rho 100 · seed 3",
        "cifar10, labels alone · CE · no re-balancing · rho 50 · seed 0",
    ]
    assert titles({}) == ["cifar10, labels alone"]
    assert titles({"epochs": 1}, {"epochs": 2}) == [
        "cifar10, labels alone · 1 epoch",
        "cifar10, labels alone · 2 epochs",
    ]
    assert titles({"learning_rate": 0.1}, {"learning_rate": 0.10, "epochs": 20}) == [
        "cifar10, labels alone · 200 epochs", "cifar10, labels alone · 20 epochs",
    ]  # fmt: skip


def test_neighbours_are_runs_of_the_same_data_set_and_phase() -> None:
    semi = {
        "phase": "train_semi",
        "configuration": json.dumps({**CIFAR, "semi_method": "fixmatch", "balancing": "DARP"}),
    }
    rows = [
        {"run": "a", "phase": "train", "configuration": json.dumps(CIFAR)},
        {"run": "b", "phase": "train", "configuration": json.dumps({**CIFAR, "dataset": "digits", "seed": 1})},
        {"run": "c", **semi},
    ]
    assert run_titles(rows) == {
        "a": "cifar10, labels alone",
        "b": "digits, labels alone",
        "c": "cifar10, FixMatch with DARP",
    }


def test_runs_that_nothing_tells_apart_have_their_names_in_their_titles() -> None:
    assert titles({}, {}) == ["cifar10, labels alone · run0", "cifar10, labels alone · run1"]
    assert titles({"threads": 1}, {"threads": 2, "runs_dir": "elsewhere"})[0] == "cifar10, labels alone · run0"


def test_a_title_has_a_bounded_number_of_options_and_the_seed() -> None:
    many = {f"option{i}": i for i in range(20)}
    _, title = titles({}, {**many, "seed": 7})
    assert title.count(" · ") == MAX_PARTS + 1 and title.endswith(" · seed 7")


def test_runs_that_the_first_options_leave_alike_are_told_apart_by_the_others() -> None:
    trial = {"seed": 1, "epochs": 3, "learning_rate": 5, "exp_str": "0"}
    telling = [{"loss_type": "LDAM", "train_rule": "DRW", "imb_factor": 0.02, "imb_type": "step", "arch": "resnet20"}]
    assert titles(*telling, {}, {**trial, "seed": 0, "exp_str": "again"}, trial) == [
        "cifar10, labels alone · LDAM · DRW · step · rho 50 · resnet20 · seed 0",
        "cifar10, labels alone · CE · no re-balancing · rho 100 · 200 epochs · seed 0",
        "cifar10, labels alone · CE · no re-balancing · rho 100 · 3 epochs · lr 5 · again · seed 0",
        "cifar10, labels alone · CE · no re-balancing · rho 100 · 3 epochs · lr 5 · seed 1",
    ]


def test_the_checkpoint_that_runs_start_from_differs_unless_it_is_that_of_their_seed() -> None:
    def start(phase: str, seed: int) -> dict[str, Any]:
        digest = f"{seed}{seed}{seed}{seed}abcd"
        return {"seed": seed, "pretrained_model": f"runs/cifar10-{phase}-e9-w1-seed{seed}-0-{digest}/ckpt.pth.tar"}

    assert titles(start("rot", 1), start("rot", 2)) == [
        "cifar10, labels alone · seed 1",
        "cifar10, labels alone · seed 2",
    ]
    assert titles(start("rot", 1), start("moco", 1)) == [
        "cifar10, labels alone · from cifar10-rot-e9-w1-seed1-0-1111abcd",
        "cifar10, labels alone · from cifar10-moco-e9-w1-seed1-0-1111abcd",
    ]
    texts = [json.dumps({**CIFAR, **start(phase, seed)}) for phase, seed in (("rot", 1), ("rot", 2), ("moco", 2))]
    assert without_seed(texts[0]) == without_seed(texts[1]) != without_seed(texts[2])


def row(run: str, phase: str = "train", **options: Any) -> dict[str, Any]:
    return {"run": run, "phase": phase, "configuration": json.dumps({"dataset": "cifar10", **options})}


def test_a_run_that_starts_from_another_one_says_what_that_did_instead_of_its_name() -> None:
    def start(source: str) -> str:
        return f"/anywhere/runs/{source}/ckpt.pth.tar"

    short, long = row("r6", "pretrain_rot", epochs=6), row("r9", "pretrain_rot", epochs=9)
    seeds = [row("m0", "pretrain_moco", seed=0), row("m1", "pretrain_moco", seed=1)]
    trained = [
        row("t6", pretrained_model=start("r6")), row("t9", pretrained_model=start("r9")),
        row("tm0", pretrained_model=start("m0"), seed=0), row("tm1", pretrained_model=start("m1"), seed=1),
        row("alone"),
    ]  # fmt: skip
    heads = [row("c6", "classifier", resume=start("t6")), row("cm0", "classifier", resume=start("tm0"))]
    found = run_titles([short, long, *seeds, *trained, *heads])
    assert found["t6"] == "cifar10, labels alone · from pre-training, rotations, 6 epochs"
    assert found["t9"] == "cifar10, labels alone · from pre-training, rotations, 9 epochs"
    assert found["tm0"] == "cifar10, labels alone · from pre-training, MoCo · seed 0"
    assert found["tm1"] == "cifar10, labels alone · from pre-training, MoCo · seed 1"
    assert found["c6"].endswith(" backbone · from labels alone, from pre-training, rotations")
    assert found["cm0"].endswith(" backbone · from labels alone, from pre-training, MoCo")
    arms = compared_arms([trained[0], trained[2]], NO_NOTES, [short, long, *seeds, *trained])
    assert [arm.title for arm in arms] == ["from pre-training, rotations, 6 epochs", "from pre-training, MoCo"]
    assert arms[0].options["pretrained_model"] == "pre-training, rotations, 6 epochs"


def test_options_that_decide_nothing_are_those_that_no_name_of_a_run_has() -> None:
    """But for the number of threads; what names another run's output, or changes the result in another step, counts."""
    trainings = (TrainOptions, TrainSemiOptions, TrainClassifierOptions, *PRETRAININGS.values())
    unnamed = {name for job in trainings for name, field in job.model_fields.items() if not is_in_run_name(field)}
    assert WHERE_IT_RUNS - {"threads"} == unnamed - SOURCE_OPTIONS - {"rounds", "logit_adjustment"}


@pytest.mark.parametrize("configuration", [None, "", "not JSON", "[1]", "[" * 5000, '{"seed": {"a": [null, 1e999]}}'])
def test_a_configuration_of_any_program_has_a_title(configuration: str | None) -> None:
    (title,) = run_titles([{"run": "a", "phase": "mine", "configuration": configuration}]).values()
    assert title == "mine"
    assert differing([configuration, "{}"]) in ([], ["seed"])


def test_the_user_s_name_wins_and_what_differs_is_below_it() -> None:
    runs = table("runs", {}, {"run": "other", "configuration": '{"dataset": "digits", "arch": "resnet32"}'})
    notes = RunNotes(descriptions={"base": RunDescription(display_name="My best")})
    html = page_state(with_tables(runs=runs), Selection(run="base"), notes).html
    assert "<h1>My best</h1>" in html["overview"] and "digits, labels alone · CE · resnet20" in html["overview"]
    assert "digits, labels alone · resnet32" in html["runs"]


@pytest.mark.parametrize(
    ("statuses", "chosen"),
    [
        (("lost", "interrupted", "finished"), "run2"), (("interrupted", "failed", "finished"), "run1"),
        (("lost", "interrupted"), "run0"), (("finished", "lost", "running"), "run2"),
    ],
)  # fmt: skip
def test_a_lost_or_interrupted_run_is_not_the_default_choice_and_looks_like_it(
    statuses: tuple[str, ...], chosen: str
) -> None:
    """Newest first."""
    rows = [{"run": f"run{i}", "status": status, "started_at": -i} for i, status in enumerate(statuses)]
    html = page_state(with_tables(runs=table("runs", *rows)), Selection()).html
    assert f'<p class="run-name">{chosen}' in html["overview"]
    assert [f'class="run {status}' in html["runs"] for status in statuses] == [True] * len(statuses)
