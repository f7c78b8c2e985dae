"""The manual: it builds without a warning or a dead link, and its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.command_line.parser import flag_values
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cli import JOBS, job_main
from longtail.spark_jobs.export import main as export
from longtail.training.run import run_training
from tests.conftest import REPOSITORY
from tests.image_tree import write_class
from tests.manual import PAGES, blocks
from tests.test_help import OPTIONS, job_of
from tests.tiny_set import ALONE, paths_of, tiny_options

TUTORIALS = sorted({block.page for block in blocks() if block.page.startswith("docs/tutorials/")})
OPTIONS_OF = {job_of(options_type): options_type for options_type in OPTIONS}


def test_every_block_is_run_or_says_why_not() -> None:
    wrong = []
    for block in blocks():
        if not block.note:
            is_right = block.page in TUTORIALS
        elif block.note.startswith("run by "):
            test = (REPOSITORY / block.note.removeprefix("run by ")).read_text()
            is_right = Path(block.page).name in test
        else:
            is_right = block.note == "needs a cluster" or block.note.startswith("not run: ")
        if not is_right:
            wrong.append((block.page, block.note, block.text))
    assert wrong == []
    unnamed = [
        page for page in PAGES if re.search(r"^```(bash|shell|console|py|ipython)$", page.read_text(), re.MULTILINE)
    ]
    assert unnamed == [], "blocks are named sh or python"


def test_every_command_names_a_job_and_options_that_exist() -> None:
    commands = [shlex.split(command) for block in blocks() if block.language == "sh" for command in block.commands()]
    whole = [words for words in commands if words[0] == "longtail" and "..." not in words]
    assert len(whole) > 40
    for _, job, *arguments in whole:
        assert job in JOBS
        flag_values(OPTIONS_OF[job], arguments, prog="longtail")


@pytest.mark.long
def test_the_manual_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    environment = os.environ | {"NO_COLOR": "1", "NO_MKDOCS_2_WARNING": "1"}  # of the theme's own future
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    assert "--imb_factor" in (tmp_path / "site/reference/prepare/index.html").read_text()


@pytest.mark.long
@pytest.mark.parametrize("page", TUTORIALS)
def test_the_blocks_of_a_tutorial_run_in_their_order(
    spark: SparkSession, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_what_the_tutorials_name(tmp_path)
    monkeypatch.chdir(tmp_path)
    variables = {"spark": spark}
    for block in (one for one in blocks() if one.page == page and not one.note):
        if block.language == "python":
            exec(block.text, variables)
            continue
        for command in block.commands():
            program, job, *arguments = shlex.split(command)
            assert program == "longtail"
            job_main(job)([filled_in(word) for word in arguments])


@pytest.mark.long
@pytest.mark.usefixtures("one_thread")
def test_exported_networks_are_used_as_the_page_on_training_says(
    set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = paths_of(set_dir, tmp_path / "run")
    run_training(tiny_options(TrainOptions, epochs=2), paths, ALONE, attempt=1)
    monkeypatch.chdir(tmp_path)
    examples = [one for one in blocks() if one.page == "docs/training.md" and one.language == "python"]
    images = np.array(load_split(set_dir, TEST, read_manifest(set_dir)).images)

    shown = []
    for file, block, given in zip(("net.pt2", "net.onnx"), examples, (torch.from_numpy(images), images), strict=True):
        export(["--resume", "run/ckpt.pth.tar", "--to", file])
        capsys.readouterr()
        exec(block.text, {"images": given})
        shown.append(capsys.readouterr().out)

    assert shown[0] == shown[1]
    assert shown[0].count("class ") == len(images)


def filled_in(word: str) -> str:
    """What a reader would put for CKPT and RUN: the checkpoint of the training before, and its name."""
    if word not in ("CKPT", "RUN"):
        return word
    newest = max(Path("runs").glob("*/ckpt.pth.tar"), key=lambda file: file.stat().st_mtime)
    return str(newest) if word == "CKPT" else newest.parent.name


def write_what_the_tutorials_name(directory: Path) -> None:
    """Two trees of photos with a rare class, and a table of images."""
    for tree, sizes in {"photos": (30, 20, 8), "other_photos": (10, 10, 10)}.items():
        for place, (name, size) in enumerate(zip(("cat", "dog", "lynx"), sizes, strict=True)):
            first_colour = 256 * (4 * place + 2 * (tree == "photos"))
            write_class(directory / tree / name, size, suffix=".jpg", first_colour=first_colour)
    files = sorted((directory / "photos").glob("*/*.jpg"))
    rows = {"photo": [file.read_bytes() for file in files], "species": [file.parent.name for file in files]}
    pd.DataFrame(rows).to_parquet(directory / "images.parquet")
