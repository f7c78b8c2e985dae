"""The jobs as a user runs them, each as a whole: real Spark, real files, the embedded digits."""

import importlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from longtail.conf.options.pretraining import PRETRAININGS
from longtail.spark_jobs.cli import JOBS
from longtail.streaming.tables.reading import latest_epochs, read_result_table
from tests.analytics import assert_delta_tables_have_the_same_rows
from tests.conftest import SCRIPTS, RunJob
from tests.events import events_in
from tests.refusals import PROGRESS_LINE

EPOCHS = 3


def _runs(root: Path, phase: str) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"runs/*-{phase}-*/result.json"))


def _result(run_dir: Path) -> dict:
    return json.loads((run_dir / "result.json").read_text())


def _weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "ckpt.pth.tar", weights_only=True)["state_dict"]


@pytest.mark.long
def test_the_pipeline_goes_from_nothing_to_a_comparison_and_shows_it_live(longtail: RunJob, tmp_path: Path):
    done = longtail("pipeline", "--epochs", EPOCHS)

    assert done.returncode == 0, done.stderr
    assert re.sub(PROGRESS_LINE, "", done.stderr) == ""
    (base,), (semi,) = _runs(tmp_path, "train"), _runs(tmp_path, "train_semi")
    # The live query saw the base run and the semi-supervised run while or right after they trained.
    assert re.search(rf"live: train epoch \d/{EPOCHS}, test: balanced accuracy", done.stdout)
    assert re.search(rf"live: train_semi epoch \d/{EPOCHS}, test: balanced accuracy", done.stdout)
    assert "== gen_pseudolabels" in done.stdout
    comparison = json.loads((semi / "comparison.json").read_text())
    assert comparison["base"] == _result(base) and comparison["semi"] == _result(semi)
    assert _result(base)["class_counts"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
    # 65 unlabeled images of each class, whatever they were predicted as, join the labelled ones.
    assert sum(_result(semi)["class_counts"]) == 131 + 650
    events = events_in(*(tmp_path / "runs/events").iterdir())
    # Two runs, an event per epoch, split (train and test) and class.
    assert len([event for event in events if event["kind"] == "class"]) == 2 * EPOCHS * 2 * 10


@pytest.mark.long
def test_rounds_of_self_training_each_learn_from_the_pseudo_labels_of_the_one_before_and_are_not_run_again(
    job: RunJob, tmp_path: Path
):
    arguments = ["--epochs", 1, "--rounds", 2, "--pseudo_label_type", "soft", "--unlabeled_ratio", 2]
    done = job("pipeline", *arguments)
    assert done.returncode == 0, done.stderr
    (base,) = _runs(tmp_path, "train")
    first, second = sorted(_runs(tmp_path, "train_semi"), key=lambda run: _result(run)["pseudo_label_round"])
    assert [_result(run)["pseudo_label_round"] for run in (base, first, second)] == [0, 1, 2]
    for run, number in ((base, 1), (first, 2)):
        table = pq.read_table(run / "pseudo_labels/pseudo_labels.parquet")
        assert table.num_rows == 650 and set(table.column("round").to_pylist()) == {number}
    assert not (second / "pseudo_labels").exists()
    # Twice 131 pseudo-labelled images an epoch, beside the labelled ones.
    assert sum(_result(second)["splits"]["train"]["totals"]["support"]) == 3 * 131
    assert json.loads((second / "comparison.json").read_text())["semi"] == _result(second)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/ckpt.pth.tar")}
    again = job("pipeline", *arguments)
    assert again.returncode == 0 and again.stdout.count("is done already") == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/ckpt.pth.tar")} == before


@pytest.mark.long
def test_crest_trains_a_generation_on_the_selected_pseudo_labels_of_the_one_before(job: RunJob, tmp_path: Path):
    method = ["--semi_method", "fixmatch", "--balancing", "CReST+", "--rounds", 2, "--unlabeled_ratio", 2]
    done = job("train_semi", "--imb_factor_unlabel", 1, "--epochs", 1, *method)
    assert done.returncode == 0, done.stderr
    first, second = sorted(_runs(tmp_path, "train_semi"), key=lambda run: _result(run)["pseudo_label_round"])
    assert [_result(run)["pseudo_label_round"] for run in (first, second)] == [0, 1]
    assert all("CReST+2" in run.name for run in (first, second))
    table = pq.read_table(first / "pseudo_labels/pseudo_labels.parquet")
    labelled = _result(first)["class_counts"]
    added = [after - before for after, before in zip(_result(second)["class_counts"], labelled, strict=True)]
    taken_for = np.bincount(table.column("pseudo_label").to_numpy(), minlength=10)
    # Of the class of rank l the share (N_{11-l}/N_1)^(1/3), rounded up: all of the smallest, the fewest of the largest.
    assert added == [int(np.ceil(n * (labelled[9 - i] / 40) ** (1 / 3) - 1e-9)) for i, n in enumerate(taken_for)]
    # The truth of the unlabeled digits is known: each epoch tells of the pseudo-labels of each class.
    assert job("monitor", "--once").returncode == 0
    for run in (first, second):
        told = read_result_table(tmp_path / "runs/analytics", "class_epochs", run=run.name).to_pylist()
        assert len([row for row in told if row["split"] == "unlabeled" and row["support"]]) == 10


@pytest.mark.long
def test_the_published_sequence_of_commands_works_step_by_step(job: RunJob, tmp_path: Path):
    """prepare, pretrain_rot, train from it, evaluate, gen_pseudolabels as pickle, train_semi, monitor."""
    data = ["--imb_factor", 0.1, "--imb_factor_unlabel", 0.5, "--unlabel_size_factor", 2, "--val_fraction", 0.2]
    short = [*data, "--epochs", 2, "--world_size", 2]

    prepared = job("prepare", *data)
    assert prepared.returncode == 0, prepared.stderr
    assert "next: longtail stats --dataset digits --imb_factor 0.1" in prepared.stdout

    pretrained = job("pretrain_rot", *short)
    assert pretrained.returncode == 0, pretrained.stderr
    (rotation_run,) = _runs(tmp_path, "pretrain_rot")
    assert _result(rotation_run)["class_names"][1] == "90 degrees"

    trained = job(
        "train",
        *short,
        "--pretrained_model",
        rotation_run / "ckpt.pth.tar",
        "--loss_type",
        "LDAM",
        "--train_rule",
        "DRW",
    )
    assert trained.returncode == 0, trained.stderr
    (base,) = _runs(tmp_path, "train")
    # Both the last and the chosen epoch are told; the choice was by validation data.
    assert "last epoch:" in trained.stdout and "chosen on validation data" in trained.stdout
    assert (base / "ckpt.best.pth.tar").exists()

    checkpoint = base / "ckpt.pth.tar"
    exports = ["--features", "out/features.parquet", "--tsne", "out/map.png"]
    evaluated = job("train", *data, "--loss_type", "LDAM", "-e", "--resume", checkpoint, *exports)
    assert evaluated.returncode == 0, evaluated.stderr
    last_epoch = next(line for line in trained.stdout.splitlines() if line.startswith("last epoch:"))
    assert last_epoch in evaluated.stdout
    assert "calibration error" in evaluated.stdout
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"features.parquet", "map.png"}

    labelled = job(
        "gen_pseudolabels", "--dataset", "digits", "--resume", checkpoint,
        "--output_dir", "pseudo", "--output_filename", "digits.pickle",
    )  # fmt: skip
    assert labelled.returncode == 0, labelled.stderr
    assert (tmp_path / "pseudo/digits.pickle").exists()
    table = tmp_path / "pseudo/digits.parquet"
    assert pq.read_table(table).num_rows == sum(json.loads(_manifest(tmp_path))["counts"]["unlabeled"])

    semi = job("train_semi", *short, "--pseudo_labels", table, "--confidence_threshold", 0.2)
    assert semi.returncode == 0, semi.stderr
    confident = int((pq.read_table(table).column("confidence").to_numpy() >= np.float32(0.2)).sum())
    (semi_run,) = _runs(tmp_path, "train_semi")
    assert sum(_result(semi_run)["class_counts"]) == sum(_result(base)["class_counts"]) + confident

    seen = job("monitor", "--once", "--format", "delta")
    assert seen.returncode == 0, seen.stderr
    assert_delta_tables_have_the_same_rows(tmp_path / "runs/analytics")
    newest = latest_epochs(read_result_table(tmp_path / "runs/analytics", "class_epochs")).to_pylist()
    shown = {(row["run"], row["class_id"]): row["accuracy"] for row in newest if row["split"] == "test"}
    for run in (base, semi_run):
        for class_id, accuracy in enumerate(_result(run)["splits"]["test"]["class_accuracy"]):
            assert shown[run.name, class_id] == accuracy


@pytest.mark.long
def test_a_classifier_is_made_anew_on_the_data_set_and_the_network_of_its_checkpoint(job: RunJob, tmp_path: Path):
    data = ["--imb_factor", 0.1, "--val_fraction", 0.2]
    assert job("train", *data, "-a", "resnet32", "--epochs", 1).returncode == 0
    (base,) = _runs(tmp_path, "train")
    done = job("train_classifier", "--resume", base / "ckpt.pth.tar", "--method", "tau")
    assert done.returncode == 0, done.stderr
    (run,) = _runs(tmp_path, "classifier-tau")
    assert _result(run)["class_counts"] == _result(base)["class_counts"]
    assert "tau_norm" in done.stdout and "last epoch:" in done.stdout


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_momentum_contrast_is_trained_by_two_ranks_and_says_what_comes_next(job: RunJob, tmp_path: Path):
    done = job("pretrain_moco", "--epochs", 1, "--world_size", 2)
    assert done.returncode == 0, done.stderr
    (run,) = _runs(tmp_path, "pretrain_moco")
    assert _result(run)["class_names"] == ["same image", "another image"]
    (command,) = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    assert command.startswith("next: longtail train --dataset digits --")
    assert all(f"--{option}" in command for option in ("epochs 1", "world_size 2", f"pretrained_model {run}"))


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_what_simclr_pre_trained_starts_a_supervised_training(job: RunJob, tmp_path: Path):
    assert job("pretrain_simclr", "--epochs", 1).returncode == 0
    (run,) = _runs(tmp_path, "pretrain_simclr")
    trained = job("train", "--epochs", 1, "--pretrained_model", run / "ckpt.pth.tar")
    assert trained.returncode == 0, trained.stderr


def _manifest(root: Path) -> str:
    (file,) = root.glob("datasets/prepared/*/manifest.json")
    return file.read_text()


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_spark_submit_and_longtail_train_the_same_weights(job: RunJob, spark_submit: RunJob, tmp_path: Path):
    arguments = ["--epochs", EPOCHS, "--threads", 1]
    direct = job("train", *arguments, "--runs_dir", "direct/runs")
    submitted = spark_submit("train", *arguments, "--runs_dir", "submitted/runs", submit=("--master", "local[2]"))
    assert direct.returncode == 0, direct.stderr
    assert submitted.returncode == 0, submitted.stderr
    (first,), (second,) = _runs(tmp_path / "direct", "train"), _runs(tmp_path / "submitted", "train")
    assert first.name == second.name
    ours, theirs = _weights(first), _weights(second)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_one_and_two_ranks_count_the_same_classes_and_learn_alike(job: RunJob, tmp_path: Path):
    for world_size in (1, 2):
        done = job("train", "--epochs", 30, "--threads", 1, "--world_size", world_size)
        assert done.returncode == 0, done.stderr
    one, two = (_result(run) for run in sorted(_runs(tmp_path, "train"), key=lambda run: "-w2-" in run.name))
    assert one["class_counts"] == two["class_counts"] == [40, 28, 20, 14, 10, 7, 5, 3, 2, 2]
    for result in (one, two):
        # Every training sample was seen once in the last epoch, whatever the number of ranks.
        assert result["splits"]["train"]["totals"]["support"] == result["class_counts"]
    accuracies = [result["splits"]["test"]["accuracy"] for result in (one, two)]
    # Guessing gives 0.1. Batch norm is per rank, so the two are not equal: they must be alike.
    assert min(accuracies) > 0.4 and abs(accuracies[0] - accuracies[1]) < 0.2, accuracies


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_a_run_is_not_trained_by_two_processes_at_once(job: RunJob, tmp_path: Path):
    command = [SCRIPTS / "longtail", "train", "--epochs", "200"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("runs/*/ckpt.pth.tar")):
            assert first.poll() is None
            time.sleep(0.1)
        second = job("train", "--epochs", 200)
        assert second.returncode == 2
        assert "another process is working on" in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=300) == 130


def _assert_one_line(done: subprocess.CompletedProcess[str], *, job: str, said: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert re.fullmatch(rf"longtail {job}: error: [^\n]*\n", done.stderr), done.stderr
    assert said in done.stderr


def test_bad_options_are_one_line_and_leave_nothing_behind(job: RunJob, tmp_path: Path):
    _assert_one_line(
        job("prepare", "--dataset", "cifar11"),
        job="prepare",
        said="choose one of cifar10, cifar100, cifar100_coarse, digits",
    )
    for bad_factor in (0, -0.1, 1.5, "many"):
        _assert_one_line(job("prepare", "--imb_factor", bad_factor), job="prepare", said="--imb_factor")
    _assert_one_line(job("train", "--epochz", 3), job="train", said="--epochz")
    _assert_one_line(job("train_semi"), job="train_semi", said="--imb_factor_unlabel is required")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_bad_checkpoints_are_one_line_and_leave_nothing_behind(job: RunJob, tmp_path: Path):
    assert job("train", "--epochs", 2, "--runs_dir", "good").returncode == 0
    (checkpoint,) = tmp_path.glob("good/*/ckpt.pth.tar")
    damaged, hostile = tmp_path / "damaged.tar", tmp_path / "hostile.tar"
    damaged.write_bytes(checkpoint.read_bytes()[:10_000])
    torch.save({"state_dict": _RunsCode()}, hostile)
    bad = {
        "is a resnet20": ["--resume", checkpoint, "-a", "resnet32"],
        "there is no checkpoint nowhere.tar": ["-e", "--resume", "nowhere.tar"],
        "damaged": ["-e", "--resume", damaged],
        "it may hold code": ["-e", "--resume", hostile],
        "--pretrained_model nowhere.tar": ["--pretrained_model", "nowhere.tar"],
        "raise --epochs": ["--resume", checkpoint, "--epochs", 1, "--exp_str", "next"],
    }
    for said, arguments in bad.items():
        _assert_one_line(job("train", *arguments), job="train", said=said)
    assert not (tmp_path / "code_ran").exists()
    assert list(tmp_path.glob("runs/*/*")) == []


class _RunsCode:
    """Pickles to a call of os.system in the job's working directory."""

    def __reduce__(self):
        return os.system, ("touch code_ran",)


@pytest.mark.long
@pytest.mark.usefixtures("with_digits")
def test_damaged_data_is_one_line_that_names_the_file(job: RunJob, tmp_path: Path):
    (file,) = tmp_path.glob("datasets/prepared/*/rows/split=train/*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    _assert_one_line(job("train", "--epochs", 1), job="train", said=file.name)


def test_a_missing_or_old_java_is_one_line(longtail: RunJob, tmp_path: Path):
    _assert_one_line(longtail("stats", JAVA_HOME=str(tmp_path)), job="stats", said="there is no")
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.22\" 2024-01-16' >&2\n")
    old.chmod(0o755)
    _assert_one_line(longtail("stats", JAVA_HOME=str(tmp_path)), job="stats", said="is Java 11")


def test_verbose_shows_the_trace(longtail: RunJob):
    done = longtail("train", "--verbose", "-e", "--resume", "nowhere.tar")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_the_command_lists_its_jobs_and_explains_one(longtail: RunJob):
    listing = longtail("--help")
    assert re.findall(r"^  (\w+) ", listing.stdout, re.MULTILINE) == list(JOBS)
    shown = longtail("train", "--help")
    assert shown.returncode == 0 and "usage: longtail train" in shown.stdout


@pytest.mark.parametrize("name", JOBS)
def test_the_source_of_a_job_begins_with_how_it_is_started(name: str):
    script = "pretrain" if name in PRETRAININGS else name
    launch_manual = importlib.import_module(f"longtail.spark_jobs.{script}").__doc__
    assert name in launch_manual and f"spark-submit spark_jobs/{script}.py" in launch_manual
    assert script != name or f"longtail {name}" in launch_manual
