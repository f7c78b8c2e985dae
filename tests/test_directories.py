"""Directories that are files, that cannot be written, or that have no room: one line that names them, with status 2."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from longtail.conf.base.paths import check_can_be_written, check_file_can_be_written
from longtail.streaming.runs.exporting import export_run
from tests.conftest import RunJob
from tests.refusals import refused

TRAIN = ["train", "--epochs", "1"]


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes; skips the test where this process may not mount one."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("this process may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, *, room: int) -> None:
    """Leave at most so many bytes of a disk, whatever the size of its blocks."""
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - room))


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def refusal(done: subprocess.CompletedProcess[str], *named: object) -> str:
    """The one line with which a job ended."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    for name in named:
        assert str(name) in line
    return line


@pytest.mark.parametrize(
    ("name", "option", "arguments"),
    [
        ("train", "--runs_dir", []),
        ("prepare", "--data_dir", []),
        ("theory", "--output_dir", []),
        ("experiment", "--results_dir", ["digits_small"]),
        ("report", "--results_dir", ["digits_small"]),
        ("monitor", "--runs_dir", []),
        ("relay", "--runs_dir", ["--bootstrap_servers", "localhost:1"]),
        ("dashboard", "--output_dir", []),
        ("stats", "--data_dir", []),
    ],
)
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_place_of_a_directory_is_named_with_its_option(
    job: RunJob, tmp_path: Path, name: str, option: str, arguments: list[str], place: str
) -> None:
    (tmp_path / "file").touch()
    line = refusal(job(name, *arguments, option, place), option, tmp_path / "file", "a directory was expected")
    assert line.startswith(f"longtail {name}: error: ")


def test_a_directory_that_need_not_exist_yet_can_be_written(tmp_path: Path) -> None:
    check_can_be_written(tmp_path / "a" / "b", option="--runs_dir")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_file_system_that_takes_no_files_is_refused_though_its_permissions_allow_them(place: str) -> None:
    with refused() as messages:
        check_can_be_written(Path(place, "runs"), option="--runs_dir")
    assert messages[0].startswith(f"--runs_dir {place}/runs: {place} cannot be written: choose another directory")
    with refused() as messages:
        export_run(Path("runs"), [], "run", Path(place, "run.zip"))
    assert messages[0].startswith(f"export to {place}: {place} cannot be written")


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        check_file_can_be_written(tmp_path, option="--output")
    assert messages == [f"--output {tmp_path} is a directory, a file was expected: name a file in it"]


def test_a_read_only_directory_is_refused_before_any_work(job: RunJob, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / "empty").touch()
        make_read_only(disk)
        with refused() as messages:
            check_can_be_written(disk / "runs", option="--runs_dir")
        assert messages[0] == (
            f"--runs_dir {disk / 'runs'}: {disk} cannot be written: choose another directory, or make it writable"
        )
        refusal(job(*TRAIN, "--runs_dir", disk / "runs"), "--runs_dir", disk)
        refusal(job("theory", "--output_dir", disk / "theory"), "--output_dir", disk)
        refusal(job("prepare", "--data_dir", disk), "--data_dir", disk)
        refusal(job("stats", "--data_dir", disk), "--data_dir", disk)
        refusal(job("report", "digits_small", "--output_dir", disk / "report"), "--output_dir", disk)
        advise = ["advise", "--unlabeled", tmp_path, "--dataset", "folder", "--path", tmp_path]
        refusal(job(*advise, "--output_dir", disk / "advice"), "--output_dir", disk)
        refusal(job("package", "--output", disk / "longtail.zip"), "--output", disk)


@pytest.fixture
def checkpoint(job: RunJob, tmp_path: Path, with_digits: None) -> Path:
    """Of a short training on the digits, which have an unlabeled part here."""
    assert job(*TRAIN, "--imb_factor_unlabel", "1").returncode == 0
    (found,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    return found


def whole_events(file: Path) -> bool:
    """Whether a file of events (an epoch's table, or the lines of a failure) has nothing but whole ones."""
    if file.suffix == ".parquet":
        return pq.read_table(file).num_rows > 0
    return all("kind" in json.loads(line) for line in file.read_text().splitlines())


@pytest.mark.long
def test_a_full_disk_is_one_line_that_says_so_in_every_job(job: RunJob, tmp_path: Path, checkpoint: Path) -> None:
    with small_disk(tmp_path / "disk", "100k") as disk:
        fill(disk, room=8 * 1024)
        for name, arguments in {  # with what each writes where there is room for it
            "evaluate": ["--resume", checkpoint, "--features", "--output_dir", disk / "evaluation"],  # 158 kB
            "gen_pseudolabels": ["--resume", checkpoint, "--output_dir", disk / "labels"],  # 27 kB
            "train": ["--epochs", "1", "--runs_dir", disk / "runs"],  # 2.2 MB
            "prepare": ["--imb_factor_unlabel", "1", "--data_dir", disk / "datasets"],  # 67 kB
            "theory": ["--repetitions", "10", "--output_dir", disk / "theory"],  # 503 kB
            "package": ["--output", disk / "longtail.zip"],  # 955 kB
        }.items():
            refusal(job(name, *arguments), disk, "No space left on device")
            for made in disk.iterdir():
                if made.is_dir():
                    # Nothing that a reader would take for a result; an epoch's events may have found room, as a whole.
                    kept = [file for file in made.rglob("*") if file.is_file() and not file.name.startswith(".")]
                    events = [file for file in kept if file.parent == disk / "runs/events"]
                    assert all(whole_events(file) for file in events)
                    results = set(kept) - set(events)
                    assert not [file for file in results if file.suffix in (".parquet", ".zip", ".tar")], name
                    shutil.rmtree(made)
