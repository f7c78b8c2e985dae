"""Files and directories appear whole or not at all."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtail.conf.base.files import new_directory, write_atomically, write_json_atomically, write_text_atomically
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


def test_a_replacement_that_fails_leaves_the_old_directory(tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").write_text("x")
    with pytest.raises(RuntimeError), new_directory(target, replace=True) as directory:
        (directory / "new").write_text("y")
        raise RuntimeError
    assert names(tmp_path) == ["set"]
    assert names(target) == ["old"]


def filled_and_killed(parent: Path, ready: Path) -> subprocess.Popen[bytes]:
    """Another process that fills a directory beside ``parent``/set until it is killed."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom longtail.conf.base.files import new_directory\n"
        "with new_directory(Path(sys.argv[1])) as directory:\n"
        "    (directory / 'f').write_text('x')\n    Path(sys.argv[2]).touch()\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(parent / "set"), str(ready)], cwd=REPOSITORY)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_fills_is_not(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    process = filled_and_killed(parent, tmp_path / "ready")
    try:
        (parent / ".kept").mkdir()
        with new_directory(parent / "other"):
            assert len(names(parent)) == 3, "the living one, .kept, and our own"
    finally:
        process.kill()
        process.wait()
    assert len(names(parent)) == 3
    with new_directory(parent / "third"):
        pass
    assert names(parent) == [".kept", "other", "third"]
