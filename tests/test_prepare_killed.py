"""`longtail prepare` on a disk that is full, and killed in the middle: real ones, in processes of their own."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from longtail.data.manifest import read_manifest
from tests.conftest import SCRIPTS, RunJob
from tests.refusals import PROGRESS_LINE


@pytest.mark.long
def test_a_full_disk_is_one_line_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    """A file system of 24 kB, in a name space of its own: it takes the directories, but not 67 kB of images."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size=24k none {disk} || exit 9
        {SCRIPTS}/longtail prepare --imb_factor_unlabel 1 --data_dir {disk}
        status=$?
        find {disk} -mindepth 1
        exit $status
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, (done.stdout, done.stderr)
    said = rf"longtail prepare: error: cannot write {disk}/\S+: No space left on device; free some or [^\n]*\n"
    assert re.fullmatch(said, re.sub(PROGRESS_LINE, "", done.stderr)), done.stderr
    assert done.stdout == f"{disk}/prepared\n"


@pytest.mark.long
def test_a_prepare_killed_in_the_middle_leaves_no_set_and_the_next_one_sweeps(job: RunJob, tmp_path: Path) -> None:
    command = [SCRIPTS / "longtail", "prepare", "--data_dir", "data"]
    killed = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    prepared = tmp_path / "data" / "prepared"
    deadline = time.monotonic() + 200
    while not (prepared.exists() and list(prepared.iterdir())):
        assert killed.poll() is None and time.monotonic() < deadline, "it never began to write"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)  # Spark's processes too
    killed.wait()
    (half,) = prepared.iterdir()
    assert half.name.startswith(".")

    assert job("prepare", "--data_dir", "data").returncode == 0
    (whole,) = prepared.iterdir()
    assert half.name.startswith(f".{whole.name}.")
    assert sum(read_manifest(whole).counts["train"]) == 131
