"""Files and directories appear whole or not at all."""

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtail.conf.base.files import (
    new_directory,
    read_regular_file,
    read_regular_text,
    scratch_directory,
    write_atomically,
    write_json_atomically,
    write_text_atomically,
)
from tests.conftest import REPOSITORY
from tests.refusals import refused


def names(directory: Path) -> list[str]:
    """Everything in the directory, hidden files included."""
    return sorted(path.name for path in directory.iterdir())


def test_a_text_is_written_with_its_parent_directories(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "text"
    write_text_atomically(file, "häh\n")
    assert file.read_bytes() == "häh\n".encode()
    assert names(file.parent) == ["text"]


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "j", {"a": [1, None]})
    assert (tmp_path / "j").read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'


def test_while_a_file_is_written_readers_see_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append((file.read_text(), temporary.parent, temporary.name[0]))

    write_atomically(file, write)
    # Beside the file, so that the rename stays on one file system; hidden, so that Spark passes it over.
    assert seen == [("old", tmp_path, ".")]
    assert file.read_text() == "new"


def test_who_has_the_old_file_open_goes_on_reading_it(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old content")
    with file.open("rb", buffering=0) as reader:
        assert reader.read(3) == b"old"
        write_text_atomically(file, "new")
        assert reader.read() == b" content"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    file = tmp_path / "f"
    file.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise failure

    with pytest.raises(failure):
        write_atomically(file, write)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_no_room_for_a_file_is_said_in_one_line_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_text_atomically(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel refuses longer files, as a full disk does
    try:
        with refused() as messages:
            write_text_atomically(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert messages[0] == (
        f"cannot write {path}: File too large; free some space and run the command again (the old file is intact)"
    )
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "j"
    write_json_atomically(file, 1)
    with pytest.raises(TypeError):
        write_json_atomically(file, object())
    assert file.read_text() == "1\n"
    assert names(tmp_path) == ["j"]


def test_a_new_directory_is_hidden_until_it_is_full(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "set"
    with new_directory(target) as directory:
        (directory / "f").write_text("x")
        assert not target.exists()
        assert directory.parent == target.parent and directory.name.startswith(".")
    assert names(target.parent) == ["set"]
    assert names(target) == ["f"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("replace", [False, True])
def test_a_new_directory_that_fails_leaves_nothing(tmp_path: Path, failure: type[BaseException], replace: bool) -> None:
    with pytest.raises(failure), new_directory(tmp_path / "set", replace=replace) as directory:
        (directory / "f").write_text("x")
        raise failure
    assert names(tmp_path) == []


def test_a_directory_that_somebody_else_made_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with pytest.raises(FileExistsError), new_directory(target) as directory:
        (directory / "mine").write_text("x")
        target.mkdir()
        (target / "theirs").write_text("y")
    assert names(tmp_path) == ["set"]
    assert names(target) == ["theirs"]


def test_replacing_a_directory_leaves_only_the_new_content(tmp_path: Path) -> None:
    target = tmp_path / "set"
    for name in ("first", "second"):
        with new_directory(target, replace=True) as directory:
            (directory / name).write_text(name)
    assert names(tmp_path) == ["set"]
    assert names(target) == ["second"]


def test_a_replacement_does_not_replace_what_somebody_else_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "set"
    target.mkdir()
    rename = os.rename

    def rename_then_theirs(source: Path, destination: Path) -> None:
        rename(source, destination)
        if source == target:  # between the removal of the old one and the renaming of the new one
            target.mkdir()
            (target / "theirs").touch()

    monkeypatch.setattr(os, "rename", rename_then_theirs)
    with pytest.raises(FileExistsError), new_directory(target, replace=True) as directory:
        (directory / "mine").touch()
    assert names(tmp_path) == ["set"]
    assert names(target) == ["theirs"]


def test_a_replacement_that_fails_leaves_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").write_text("x")
    with pytest.raises(RuntimeError), new_directory(target, replace=True) as directory:
        (directory / "new").write_text("y")
        raise RuntimeError
    assert names(tmp_path) == ["set"]
    assert names(target) == ["old"]


FILLING = {
    "directory": "with new_directory(place) as directory:\n    (directory / 'f').touch(); wait()",
    "file": "write_atomically(place, lambda temporary: (temporary.write_text('half'), wait()))",
    "scratch": "with scratch_directory(place.parent, 'set') as directory:\n    (directory / 'f').touch(); wait()",
}


def filling_process(parent: Path, ready: Path, kind: str) -> subprocess.Popen[bytes]:
    """Another process that writes ``parent``/set until it is killed."""
    code = f"""
import sys, time
from pathlib import Path
from longtail.conf.base.files import new_directory, scratch_directory, write_atomically

def wait():
    Path(sys.argv[2]).touch()
    time.sleep(600)

place = Path(sys.argv[1])
{FILLING[kind]}
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(parent / "set"), str(ready)], cwd=REPOSITORY)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("kind", FILLING)
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_fills_is_not(tmp_path: Path, kind: str) -> None:
    parent = tmp_path / "parent"
    process = filling_process(parent, tmp_path / "ready", kind)
    # Names that are not ours: a dot alone does not make them litter.
    foreign = [".kept", ".cache.d41d8cd98f00b204e9800998ecf8427e", "a.longtail-d41d8cd98f00b204e9800998ecf8427e"]
    try:
        for name in foreign:
            (parent / name).mkdir()
        with new_directory(parent / "other"):
            assert len(names(parent)) == 5, "the living one, the foreign ones, and our own"
    finally:
        process.kill()
        process.wait()
    assert len(names(parent)) == 5
    with new_directory(parent / "third"):
        pass
    assert names(parent) == sorted([*foreign, "other", "third"])


def test_the_first_file_that_a_process_writes_in_a_directory_sweeps_it(tmp_path: Path) -> None:
    process = filling_process(tmp_path / "parent", tmp_path / "ready", "file")
    process.kill()
    process.wait()
    (half,) = names(tmp_path / "parent")
    assert half.startswith(".set.longtail-")
    write_text_atomically(tmp_path / "parent" / "set", "whole")
    assert names(tmp_path / "parent") == ["set"]


def test_a_scratch_directory_is_for_its_user_alone_and_goes_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch_directory(tmp_path / "new", "live") as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "f").touch()
        raise RuntimeError
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "directory"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    place = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(place))
    with pytest.raises(OSError, match="not a regular file|No such device or address"):
        read_regular_file(place)
    (tmp_path / "f").write_text("häh")
    assert read_regular_text(tmp_path / "f") == "häh"


def test_a_name_that_no_file_can_have_is_refused_as_one_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no file has this name"):
        read_regular_file(tmp_path / "a\0b")
