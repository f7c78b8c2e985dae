"""From trials to steps: what is shared, what waits for what, and which options each step gets."""

import re
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.arguments import resolve_options
from longtail.conf.experiment import Experiment, read_experiment
from longtail.conf.options.studies import ExperimentOptions
from longtail.conf.packaged import packaged_names
from longtail.spark_jobs.experiment import main
from longtail.spark_jobs.studies.budgets import budget_sentence, budgets_of_plan
from longtail.spark_jobs.studies.cost import (
    StepTime,
    images_of_step,
    kind_of,
    optimizer_steps_of_step,
    seconds_per_image,
)
from longtail.spark_jobs.studies.kept_trials import keep_trials, kept_trials, take_over_trials
from longtail.spark_jobs.studies.order import in_groups, in_order
from longtail.spark_jobs.studies.plan import plan
from longtail.spark_jobs.studies.planned import (
    SET,
    PlannedStep,
    PlannedTrial,
    all_steps,
    steps_in_order,
    titles_of,
)
from longtail.spark_jobs.studies.results import read_trials
from longtail.spark_jobs.studies.terminal import print_plan
from tests.refusals import refused

EXPERIMENTS = packaged_names("experiments")
NUM_IMAGES = {"imagenet_lt_ssp": 115_846, "inaturalist_ssp": 437_513}
"""Lines of the lists as they are published."""
D_U = {"D_U": {"none": {}, "balanced": {"imb_factor_unlabel": 1}}}


def planned(axes: dict[str, Any], *, seeds: tuple[int, ...] = (0,), **parts: Any) -> list[PlannedTrial]:
    found = Experiment.model_validate({"title": "t", "seeds": seeds, "axes": axes, **parts})
    return plan(found, source="x.yaml", common={})


def jobs(trial: PlannedTrial) -> list[str]:
    return [step.job for step in trial.steps()]


def step(trial: PlannedTrial, job: str) -> PlannedStep:
    (found,) = [step for step in trial.steps() if step.job == job]
    return found


def test_labels_alone_are_two_steps_and_pseudo_labels_five():
    alone, semi = planned(D_U)
    assert jobs(alone) == ["prepare", "train"]
    assert jobs(semi) == ["prepare", "prepare", "train", "gen_pseudolabels", "train_semi"]
    assert [name for name in semi.last_step.inputs if name != SET] == ["pseudo_labels"]


def test_the_base_training_is_the_labeller_of_the_trials_with_unlabeled_data():
    alone, semi = planned(D_U)
    assert step(semi, "train").step_id == alone.last_step.step_id
    assert step(alone, "train").planned_options.imb_factor_unlabel is None


def test_several_unlabeled_sets_share_their_labeller():
    levels = {f"rho_U = {rho}": {"imb_factor_unlabel": 1 / rho} for rho in (1, 25, 50, 100)}
    trials = planned({"D_U": levels}, options={"dataset": "cifar10"}, labeller={"loss_type": "CE"})
    steps = [step.job for step in all_steps(trials)]
    assert {job: steps.count(job) for job in steps} == {
        "prepare": 5, "train": 1, "gen_pseudolabels": 4, "train_semi": 4,
    }  # fmt: skip


def test_a_labeller_of_its_own_is_trained_once_for_all_rules():
    rules = {"CE": {}, "LDAM-DRW": {"loss_type": "LDAM", "train_rule": "DRW"}}
    trials = planned(
        {"rule": rules}, options={"imb_factor_unlabel": 1}, labeller={"loss_type": "CE", "train_rule": "None"}
    )
    steps = [step.job for step in all_steps(trials)]
    assert steps.count("train") == 1 and steps.count("gen_pseudolabels") == 1 and steps.count("train_semi") == 2
    assert [trial.last_step.planned_options.loss_type for trial in trials] == ["CE", "LDAM"]


def test_pre_training_is_shared_by_rules_and_starts_both_trainings():
    rules = {"CE": {}, "DRW": {"train_rule": "DRW"}}
    trials = planned(
        {"rule": rules, "SSP": {"rotation": {"pretraining_job": "pretrain_rot"}}},
        options={"imb_factor_unlabel": 1, "epochs": 9},
        pretraining={"epochs": 4},
    )
    (pretraining,) = {step(trial, "pretrain_rot").step_id for trial in trials}
    assert step(trials[0], "pretrain_rot").planned_options.epochs == 4
    assert step(trials[0], "train").planned_options.epochs == 9
    for job in ("train", "train_semi"):
        assert step(trials[0], job).inputs["pretrained_model"].step_id == pretraining


def test_seeds_share_the_data_set_alone():
    one, two = planned({"a": {"b": {}}}, seeds=(0, 1))
    assert [a.step_id == b.step_id for a, b in zip(one.steps(), two.steps(), strict=True)] == [True, False]


def test_options_that_say_the_default_make_the_same_step():
    one, two = planned({"rule": {"CE": {}, "said": {"train_rule": "None"}}})
    assert one.last_step.step_id == two.last_step.step_id


def test_steps_come_after_those_they_need():
    place = {step.step_id: i for i, step in enumerate(all_steps(planned(D_U, seeds=(0, 1))))}
    for trial in planned(D_U, seeds=(0, 1)):
        for one in trial.steps():
            assert all(place[before.step_id] < place[one.step_id] for before in one.inputs.values())
            assert all(before.depth < one.depth for before in one.inputs.values())


def test_a_second_stage_takes_the_network_and_not_the_epochs():
    (trial,) = planned(
        {"stage": {"cRT": {"classifier": {"method": "cRT"}}}}, options={"epochs": 33, "arch": "resnet44"}
    )
    assert jobs(trial) == ["prepare", "train", "train_classifier"]
    assert (trial.last_step.planned_options.epochs, trial.last_step.planned_options.arch) == (10, "resnet44")
    assert trial.last_step.inputs["resume"].planned_options.epochs == 33


def test_the_batch_of_a_training_is_not_that_of_the_labelling():
    _, semi = planned(D_U, options={"batch_size": 17})
    assert step(semi, "gen_pseudolabels").planned_options.batch_size == 500


def test_an_option_that_a_job_refuses_is_named_with_its_trial():
    with refused() as messages:
        planned({"rule": {"bad": {"epochs": -1}}})
    assert messages[0].startswith("x.yaml, trial rule bad, seed 0: train: --epochs -1: ")


@pytest.mark.parametrize(("given", "meant"), [("epoch", "epochs"), ("lr", "learning_rate"), ("b", "batch_size")])
def test_an_option_that_no_job_has_is_named_with_the_one_that_was_meant(given: str, meant: str):
    with refused() as messages:
        planned({"rule": {"bad": {given: 1}}})
    assert messages[0].startswith(f"x.yaml: no job has an option {given} (did you mean {meant}?);")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_that_is_shipped_has_the_trials_and_images_that_are_documented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("longtail.spark_jobs.studies.terminal.probed_seconds_per_image", lambda steps: {})
    monkeypatch.chdir(tmp_path)
    options = read_experiment(name).options
    # Where an image tree and its lists are expected, they are.
    for option, num_lines in (("list_file", NUM_IMAGES.get(name, 0)), ("test_list_file", 1)):
        if option in options:
            list_file = Path(options[option])
            list_file.parent.mkdir(exist_ok=True)
            list_file.write_text("".join(f"{i}.jpg {i % 2}\n" for i in range(num_lines)))
    Path(options.get("path", ".")).mkdir(exist_ok=True)
    before = set(tmp_path.rglob("*"))

    main([name, "--dry_run"])

    lines = capsys.readouterr().out.splitlines()
    (num_trials,) = (int(found[1]) for line in lines if (found := re.match(r"(\d+) trials, \d+ steps", line)))
    images = [line.split()[0].replace(",", "") for line in lines if re.match(r" *([\d,]+|[?]) ", line)]
    num_images = sum(map(int, images)) / 1e6
    rounded = f"{num_images:,.0f} M" if num_images >= 10 else f"{num_images:.2f} M"
    assert documented_counts()[name] == (str(num_trials), rounded)
    assert set(tmp_path.rglob("*")) == before, "a plan fetches no data set"


def documented_counts() -> dict[str, tuple[str, str]]:
    """Trials and images by file, of the table in docs/experiments.md."""
    found: dict[str, tuple[str, str]] = {}
    for line in (Path(__file__).parents[1] / "docs" / "experiments.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 8 or "`" not in line:
            continue
        for name, trials, images in ((cells[1], *cells[3:5]), (cells[5], *cells[6:])):
            if trials:
                file = re.findall(r"`(\w+)`", name)[0]
                assert file not in found, f"{file} is there twice"
                found[file] = (trials, images.removesuffix(" of 224x224"))
    return found


def test_the_documented_experiments_are_those_that_are_shipped():
    assert sorted(documented_counts()) == EXPERIMENTS


def test_trials_that_share_a_step_are_finished_together_seed_by_seed():
    rules = {"CE": {}, "DRW": {"train_rule": "DRW"}}
    ssp = {"none": {}, "rotation": {"pretraining_job": "pretrain_rot"}}
    trials = planned({"rule": rules, "SSP": ssp}, seeds=(7, 3))
    assert [trial.trial.name for trial in in_order(trials)] == [
        f"rule {rule}, SSP {pretraining}, seed {seed}"
        for seed in (7, 3)
        for rule, pretraining in (("CE", "none"), ("CE", "rotation"), ("DRW", "rotation"), ("DRW", "none"))
    ]


def test_steps_run_in_groups_each_after_those_that_it_needs():
    rules = {"CE": {}, "DRW": {"train_rule": "DRW"}}
    ssp = {"none": {}, "rotation": {"pretraining_job": "pretrain_rot"}}
    trials = in_order(planned({"rule": rules, "SSP": ssp}, seeds=(7, 3)))
    steps = steps_in_order(trials)
    assert [len(group) for group in in_groups(steps, size=1)] == [1] * 11
    # The pre-trainings share the depth of the trainings from scratch; the trainings after them have to wait for both.
    pairs = in_groups(steps, size=2)
    assert [[step.job for step in group] for group in pairs] == [
        ["prepare"], ["train", "pretrain_rot"], ["train", "train"], ["train", "train"], ["pretrain_rot", "train"],
        ["train", "train"],
    ]  # fmt: skip
    for size in range(1, 9):
        groups = in_groups(steps, size=size)
        assert sorted(step.step_id for group in groups for step in group) == sorted(step.step_id for step in steps)
        place = {step.step_id: number for number, group in enumerate(groups) for step in group}
        assert all(place[other.step_id] < place[step.step_id] for step in steps for other in step.inputs.values())
        assert max(map(len, groups)) <= size


def test_steps_of_one_name_are_told_apart_by_the_options_in_which_they_differ():
    margins = {"small": {"ldam_max_margin": 0.2}, "large": {"ldam_max_margin": 0.8}}
    steps = all_steps(planned({"margin": margins}, options={"loss_type": "LDAM"}))
    found = list(titles_of(steps).values())
    assert found[0].startswith("prepare digits-") and "," not in found[0]
    assert [title.rpartition(", ")[2] for title in found[1:]] == ["ldam_max_margin 0.2", "ldam_max_margin 0.8"]


def test_a_plan_says_which_steps_each_step_starts_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("longtail.spark_jobs.studies.terminal.probed_seconds_per_image", lambda steps: {})
    ssp = {"none": {}, "rotation": {"pretraining_job": "pretrain_rot"}}
    experiment = Experiment.model_validate({"title": "t", "seeds": [0], "axes": {"SSP": ssp}})
    print_plan(experiment, plan(experiment, source="x.yaml", common={}), {}, [])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    # The set, the training on it, the pre-training, and the training after that.
    assert [row[3:5] for row in rows] == [["1", "-"], ["2", "1"], ["3", "1"], ["4", "1,3"]]


@pytest.mark.parametrize("file", ["a b.yaml", "/tmp/ä.yaml", "x/$(y).yaml"])
def test_a_file_s_name_has_to_fit_the_directories_of_its_results(file: str):
    with refused() as messages:
        resolve_options(ExperimentOptions, {"experiment": file})
    assert messages[0].endswith(
        f"EXPERIMENT {file}: a file was expected whose name has only letters, digits, _, . and -: the results have it"
    )


def test_the_first_seeds_of_a_file_can_be_planned_alone():
    found = Experiment.model_validate({"title": "t", "seeds": [5, 6, 7], "axes": D_U})
    trials = plan(found, source="x.yaml", common={}, num_seeds=2)
    assert [trial.trial.options["seed"] for trial in trials] == [5, 6, 5, 6]
    with refused() as messages:
        plan(found, source="x.yaml", common={}, num_seeds=4)
    assert messages[0] == "--num_seeds 4: x.yaml has 3 seeds; give at most that many"


def test_arms_have_equal_steps_where_unlabeled_images_have_batches_of_their_own(tmp_path: Path):
    # 131 labelled images are 5 steps of 32; with 650 unlabeled ones in the same batches 25, in others again 5.
    options = {"epochs": 3, "batch_size": 32, "data_dir": tmp_path}
    steps = [optimizer_steps_of_step(trial.last_step) for trial in planned(D_U, options=options)]
    assert steps == [15, 75]
    apart = planned(D_U, options=options, semi={"unlabeled_ratio": 5})
    assert [optimizer_steps_of_step(trial.last_step) for trial in apart] == [15, 15]
    assert budget_sentence(budgets_of_plan(apart)) == "All trials train for 3 epochs, 15 optimizer steps."


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("two_cores_")])
def test_what_is_compared_on_two_cores_has_equal_steps_in_at_most_two_and_a_half_hours(name: str):
    experiment = read_experiment(name)
    assert experiment.options["eval_every"] == 10 and len(experiment.seeds) == 5
    trials = plan(experiment, source=name, common={}, num_seeds=3)
    assert budget_sentence(budgets_of_plan(trials)).startswith("All trials train for ")
    # Two trainings of a thread each pass 2,200 images per second through resnet20_s2, on two quiet cores with AVX-512.
    assert experiment.options["arch"] == "resnet20_s2"
    assert sum(images_of_step(step) or 0 for step in all_steps(trials)) / 2200 / 3600 < 2.5


def test_a_level_may_have_a_labeller_of_its_own_and_labels_spoilt_on_purpose():
    levels = {
        "plain": {},
        "weak": {"labeller": {"epochs": 2}},
        "few": {"labeller": {"n_max": 20}},
        "true": {"wrong_share": 0},
        "spoilt": {"wrong_share": 0.25},
    }
    options = {"imb_factor_unlabel": 1, "epochs": 9}
    plain, weak, few, true, spoilt = planned({"labels": levels}, options=options, labeller={"epochs": 5})
    assert [step(trial, "train").planned_options.epochs for trial in (plain, weak, few)] == [5, 2, 5]
    assert [trial.last_step.planned_options.epochs for trial in (plain, weak)] == [9, 9]
    # Fewer labels are another set, for the labeller alone.
    assert few.last_step.inputs[SET].step_id == plain.last_step.inputs[SET].step_id
    assert step(few, "train").inputs[SET].step_id != step(plain, "train").inputs[SET].step_id
    # The same labeller, and other labels.
    assert step(true, "train").step_id == step(plain, "train").step_id
    ids = {step(trial, "gen_pseudolabels").step_id for trial in (plain, weak, few, true, spoilt)}
    assert len(ids) == len({trial.last_step.step_id for trial in (plain, weak, few, true, spoilt)}) == 5
    with refused() as messages:
        planned({"labels": {"bad": {"labeller": {"epoch": 1}}}}, options=options)
    assert messages[0].startswith("x.yaml: no job has an option epoch (did you mean epochs?);")


def test_labels_by_different_thresholds_are_different_labels():
    levels = {"all": {}, "sure": {"threshold": 0.9}, "few": {"top_k": 5}}
    trials = planned({"labels": levels}, options={"imb_factor_unlabel": 1})
    assert len({trial.last_step.step_id for trial in trials}) == 3


def test_trials_that_a_report_keeps_are_done_on_another_machine(tmp_path: Path):
    found = Experiment.model_validate({"title": "t", "seeds": [0, 1, 2], "axes": D_U})
    trials = plan(found, source="x.yaml", common={})
    about = {"versions": {}, "note": None}
    rows = [
        {
            "trial": trials[0].trial.trial_id,
            "levels": trials[0].trial.levels,
            "seed": 0,
            "balanced_accuracy": 0.5,
            **about,
        },
        {
            "trial": trials[1].trial.trial_id,
            "levels": trials[1].trial.levels,
            "seed": 1,
            **about,
            "note": "scores alone",
        },
        {"trial": "of another experiment", "levels": {}, "seed": 2, **about},
    ]
    keep_trials(tmp_path / "trials.parquet", found, rows)
    take_over_trials(tmp_path / "trials.parquet", trials, results_dir=tmp_path / "results", experiment="x")
    (row,) = read_trials(tmp_path / "results", "x")
    assert row["trial"] == trials[0].trial.trial_id and row["balanced_accuracy"] == 0.5
    kept, kept_rows = kept_trials(tmp_path / "trials.parquet")
    assert kept == found and len(kept_rows) == 3


def test_the_cost_of_a_step_is_the_images_of_its_epochs(tmp_path: Path):
    # 131 labelled digits, and 65 unlabeled ones of each class.
    _, semi = planned(D_U, options={"epochs": 3, "data_dir": tmp_path})
    assert [(step.job, images_of_step(step)) for step in semi.steps()] == [
        ("prepare", 0), ("prepare", 0), ("train", 3 * 131), ("gen_pseudolabels", 650), ("train_semi", 3 * 781),
    ]  # fmt: skip


def test_fixmatch_needs_no_labeller_and_sees_unlabeled_images_twice_or_three_times(tmp_path: Path):
    levels = {"FixMatch": {}, "ABC": {"balancing": "ABC"}, "CReST+": {"balancing": "CReST+", "rounds": 3}}
    of_fixmatch = {"semi_method": "fixmatch", "unlabeled_ratio": 2, "imb_factor_unlabel": 1, "epochs": 3}
    trials = planned({"method": levels}, options={**of_fixmatch, "data_dir": tmp_path})
    assert [jobs(trial) for trial in trials] == 3 * [["prepare", "train_semi"]]
    # For each labelled image, seen once, two unlabeled ones in two or three views, and with CReST+ in three rounds.
    images = [3 * (1 + 2 * 2) * 131, 3 * (1 + 2 * 3) * 131, 3 * 3 * (1 + 2 * 2) * 131]
    assert [images_of_step(trial.last_step) for trial in trials] == images
    assert len({trial.last_step.step_id for trial in trials}) == 3


def test_the_time_of_an_image_is_that_of_steps_of_its_kind(tmp_path: Path):
    alone, semi = planned(D_U, options={"data_dir": tmp_path})
    kind = kind_of(alone.last_step)
    times = [StepTime("a", *kind, 100, 4.0), StepTime("b", *kind, 300, 4.0), StepTime("c", *kind, None, 9.0)]
    assert seconds_per_image(times) == {("train", "digits", "resnet20"): 8.0 / 400}
    assert kind_of(semi.last_step) not in seconds_per_image(times)
