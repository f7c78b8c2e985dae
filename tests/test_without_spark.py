"""`python -m longtail.training`: the same trainings without Spark; their pseudo-labels must have been made before."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longtail.training.__main__ import run_command
from longtail.training.command import main
from tests.refusals import refused
from tests.tiny_set import COUNTS, unlabeled_ids, write_pseudo_labels, write_tiny_set


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """train_semi for an epoch on the tiny set, what it learns from left open."""
    set_dir = write_tiny_set(tmp_path / "set")
    given = (
        f"train_semi --set_dir {set_dir} --runs_dir {tmp_path / 'runs'} --imb_factor_unlabel 1 --epochs 1 --threads 1"
    )
    return given.split()


def result_of(tmp_path: Path) -> dict:
    (file,) = tmp_path.glob("runs/*/result.json")
    return json.loads(file.read_text())


def test_pseudo_labels_must_be_named(command: list[str]) -> None:
    with refused() as messages:
        main(command)
    assert "without Spark, train_semi needs --pseudo_labels" in messages[0]


def test_a_table_is_learned_from_and_its_round_recorded(command: list[str], tmp_path: Path) -> None:
    table = write_pseudo_labels(tmp_path / "pseudo", unlabeled_ids(), [0, 1, 2] * 4, [0.5] * 12, this_round=3)
    main([*command, "--pseudo_labels", str(table), "--pseudo_label_type", "soft"])
    result = result_of(tmp_path)
    assert result["pseudo_label_round"] == 3
    assert sum(result["class_counts"]) == 40 + 12


def test_there_are_no_further_rounds(command: list[str]) -> None:
    with refused() as messages:
        main([*command, "--pseudo_labels", __file__, "--rounds", "2"])
    assert "without Spark there is one round" in messages[0]


def test_a_generation_of_crest_is_told_which_it_is_by_its_table(command: list[str], tmp_path: Path) -> None:
    table = write_pseudo_labels(tmp_path / "pseudo", unlabeled_ids(), [0, 1, 2] * 4, [0.5] * 12, this_round=2)
    crest = ["--semi_method", "fixmatch", "--balancing", "CReST+", "--unlabeled_ratio", "0.5", "--rounds", "3"]
    main([*command, *crest, "--pseudo_labels", str(table)])
    assert result_of(tmp_path)["pseudo_label_round"] == 2


def test_fixmatch_needs_no_pseudo_labels(command: list[str], tmp_path: Path) -> None:
    main([*command, "--semi_method", "fixmatch", "--unlabeled_ratio", "0.5"])
    result = result_of(tmp_path)
    assert result["pseudo_label_round"] == 0
    assert result["splits"]["train"]["totals"]["support"] == COUNTS["train"]


@pytest.mark.parametrize(
    "option", [["--mlflow"], ["--retries", "2"], ["--rank_timeout", "60"], ["--master", "local[2]"]]
)
def test_what_only_a_driver_does_is_refused(command: list[str], option: list[str]) -> None:
    with refused() as messages:
        main([*command, "--pseudo_labels", __file__, *option])
    assert messages[0].startswith(f"{option[0]} needs Spark, whose driver ") and "leave it out here" in messages[0]


def test_a_directory_that_cannot_be_written_is_refused_before_any_work(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused() as messages:
        main(["train", *command[1:], "--runs_dir", str(tmp_path / "file" / "runs")])
    assert messages[0].startswith(
        f"--runs_dir {tmp_path}/file/runs: {tmp_path}/file is a file, a directory was expected"
    )


def test_an_error_of_the_operating_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: list[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/ckpt.pth.tar")

    monkeypatch.setattr("longtail.training.command.main", full)
    with pytest.raises(SystemExit) as ended:
        run_command()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "python -m longtail.training: error: cannot use /runs/ckpt.pth.tar: No space left on device; free"
    )


def test_ctrl_c_while_packages_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "longtail.training", "train", "--set_dir", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "python -m longtail.training: interrupted\n")
