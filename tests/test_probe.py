"""The first `--dry_run` has a time for each step, from a probe of its network."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.experiment import Experiment
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.studies import probe
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of
from longtail.spark_jobs.studies.plan import plan
from longtail.spark_jobs.studies.planned import PlannedStep, all_steps
from longtail.spark_jobs.studies.probe import Probe, probe_of, probed_seconds_per_image, timed_seconds_per_image
from longtail.spark_jobs.studies.terminal import print_plan
from longtail.spark_jobs.studies.training_cost import print_cost
from longtail.spark_jobs.train import main as train
from longtail.spark_jobs.train_semi import main as train_semi
from tests.refusals import refused
from tests.test_experiment_plan import D_U, planned

DIGITS = {"dataset": "digits", "arch": "resnet20", "epochs": 3, "batch_size": 32}


def steps_of(**options: Any) -> dict[str, PlannedStep]:
    """By job."""
    axes = {**D_U, "SSP": {"none": {}, "simclr": {"pretraining_job": "pretrain_simclr"}}}
    trials = planned(axes, options={**DIGITS, **options})
    return {step.job: step for step in all_steps(trials)}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Probe]:
    """What was timed; each image takes a millisecond."""
    found: list[Probe] = []

    def seconds(one: Probe) -> float:
        found.append(one)
        return 0.001

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "timed_seconds_per_image", seconds)
    return found


def test_ten_steps_of_a_network_are_timed_in_seconds() -> None:
    learning = timed_seconds_per_image(Probe("resnet20", (8, 8, 1), 16, learns=True, threads=1))
    assert 0 < learning < 1
    with pytest.raises(UserError, match="needs images from 4x4 pixels"):
        timed_seconds_per_image(Probe("resnet20", (2, 2, 1), 16, learns=True, threads=1))


def test_a_step_is_timed_with_its_own_network_images_and_batch(timed: list[Probe]) -> None:
    steps = steps_of()
    assert probe_of(steps["train"]) == Probe("resnet20", (8, 8, 1), 32, learns=True, threads=1)
    # A classifier that labels takes no gradients; its network is that of the step before.
    labelling = probe_of(steps["gen_pseudolabels"])
    assert labelling is not None and (labelling.arch, labelling.learns) == ("resnet20", False)
    assert probe_of(steps["prepare"]) is None
    assert probe_of(steps_of(arch="theirs.networks:net")["train"]) is None, "a plan runs no code of the user's"
    rates = probed_seconds_per_image(steps.values())
    assert rates[kind_of(steps["train"])] == 0.001
    assert rates[kind_of(steps["pretrain_simclr"])] == 0.002, "two views of each image"


def test_a_probe_is_kept_for_a_day(timed: list[Probe], tmp_path: Path) -> None:
    train = steps_of()["train"]
    for _ in range(2):
        assert probed_seconds_per_image([train]) == {kind_of(train): 0.001}
    assert len(timed) == 1
    cache = tmp_path / "longtail" / "probes.json"
    ((key, (seconds, at)),) = json.loads(cache.read_text()).items()
    for content in (json.dumps({key: [seconds, at - 25 * 3600]}), "[", '{"x": 1}', json.dumps({key: [-1, at]})):
        cache.write_text(content)
        assert probed_seconds_per_image([train]) == {kind_of(train): 0.001}
    assert len(timed) == 5


def test_a_network_that_cannot_be_made_stays_unknown(monkeypatch: pytest.MonkeyPatch, timed: list[Probe]) -> None:
    def fails(one: Probe) -> float:
        raise UserError("timm is not installed")

    monkeypatch.setattr(probe, "timed_seconds_per_image", fails)
    assert probed_seconds_per_image(steps_of().values()) == {}


def test_the_plan_says_what_is_measured_estimated_and_probed(
    timed: list[Probe], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment.model_validate({"title": "t", "seeds": (0,), "axes": D_U, "options": DIGITS})
    trials = plan(experiment, source="x.yaml", common={})
    train = next(step for step in all_steps(trials) if step.job == "train")
    num_images = images_of_step(train)
    print_plan(experiment, trials, {}, [])
    printed = capsys.readouterr().out
    # The training, the labelling and the training with pseudo-labels; a millisecond for each image.
    assert len(re.findall(r"(?m)^ *[\d,]+ +~ \d+ ", printed)) == 3 and "?" not in printed
    assert num_images is not None and f"{num_images:,}  {f'~ {num_images / 1000:.0f}':>12}  " in printed
    assert "~: by a probe of 10 steps on random images" in printed

    print_plan(experiment, trials, {train.step_id: StepTime(train.step_id, *kind_of(train), num_images, 50.0)}, [])
    printed = capsys.readouterr().out
    assert "50, done" in printed and len(re.findall(r"~ \d+ ", printed)) == 2


def test_the_cost_of_a_training_on_images_that_are_not_there_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        print_cost(resolve_options(TrainOptions, {"unlabeled": "nowhere", "data_dir": tmp_path}))
    assert messages == ["--unlabeled nowhere: there is no such file or directory (or give rest or svhn_extra)"]


def test_a_training_says_its_cost_and_does_not_run(
    timed: list[Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    usual = ["--dataset", "digits", "--imb_factor", "0.05", "--dry_run"]
    train([*usual, "--epochs", "4", "-b", "20"])
    first, second = capsys.readouterr().out.splitlines()
    # 40 x 0.05^(k / 9) images of class k, rounded down: 131 in all; 7 steps of at most 20 in each epoch.
    assert first.endswith(": 524 images in 28 steps, 4 epochs")
    assert second.startswith("about 1 s in one process on this machine, by a probe of 10 steps on random images")
    train_semi([*usual, "--imb_factor_unlabel", "1", "--semi_method", "fixmatch", "--epochs", "4"])
    assert "about " in capsys.readouterr().out
    train([*usual, "-a", "theirs.networks:net"])
    assert "how long it takes is not known" in capsys.readouterr().out
    with refused() as messages:
        resolve_options(TrainOptions, {"evaluate": True, "resume": __file__, "dry_run": True})
    assert messages == ["--dry_run is about a training, and -e is none: leave out one of them"]
    assert {file for file in set(tmp_path.rglob("*")) - before if "longtail" not in file.parts} == set()
