"""The source of CIFAR-100: one file, two kinds of label."""

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ID, IMAGE, LABEL, SOURCE_SCHEMA
from longtail.data.sources import cifar100, cifar100_coarse
from longtail.data.sources.base import Shard
from tests.refusals import refused
from tests.sources import in_directory

# Nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9"

# Three images in the official layout: 1024 red values row by row, then green, then blue.
PIXELS = np.random.default_rng(1).integers(0, 256, (3, 3072), dtype=np.uint8)
IMAGES = np.stack([PIXELS[:, :1024], PIXELS[:, 1024:2048], PIXELS[:, 2048:]], axis=-1)  # (3, 1024, 3)
FINE, COARSE = [99, 0, 42], [13, 4, 8]


def official_file(**changes: object) -> bytes:
    content = {"data": PIXELS, "fine_labels": FINE, "coarse_labels": COARSE, "filenames": ["a.png"] * 3, **changes}
    return pickle.dumps({name.encode(): value for name, value in content.items()}, protocol=2)


def write_official(data_dir: Path, layout: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training file in the official directory or archive, known by its hash as the official one is; the path."""
    monkeypatch.setitem(cifar100._MD5, TRAIN, hashlib.md5(content).hexdigest())
    if layout == "directory":
        (data_dir / "cifar-100-python").mkdir()
        (data_dir / "cifar-100-python" / "train").write_bytes(content)
        return data_dir / "cifar-100-python"
    with tarfile.open(data_dir / "cifar-100-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-100-python/train")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    path = data_dir / "cifar-100-python.tar.gz"
    monkeypatch.setattr(cifar100, "_ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("layout", ["directory", "archive"])
@pytest.mark.parametrize(("source", "labels"), [(cifar100, FINE), (cifar100_coarse, COARSE)])
def test_the_file_becomes_rows_with_fine_or_coarse_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, source: ModuleType, labels: list[int]
) -> None:
    path = write_official(tmp_path, layout, official_file(), monkeypatch)
    located = source.locate(in_directory(tmp_path))
    assert [(shard.path, shard.split, shard.first_id) for shard in located.shards] == [
        (path, TRAIN, 0),
        (path, TEST, 50_000),
    ]
    batch = source.read(located.shards[0])
    assert batch.schema == SOURCE_SCHEMA
    assert batch.column(ID).to_pylist() == [0, 1, 2]
    assert batch.column(LABEL).to_pylist() == labels
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in IMAGES]


@pytest.mark.parametrize(("source", "num_classes"), [(cifar100, 100), (cifar100_coarse, 20)])
def test_every_class_has_a_name(source: ModuleType, num_classes: int) -> None:
    assert len(set(source.CLASS_NAMES)) == num_classes
    assert sorted(source.CLASS_NAMES) == source.CLASS_NAMES, "the labels go by the alphabet"


@pytest.mark.parametrize(
    ("source", "content", "named"),
    [
        (cifar100, official_file(fine_labels=[0, 100, 1]), "has the label 100, the 100 classes are 0..99"),
        (cifar100_coarse, official_file(coarse_labels=[0, 1, -1]), "has the label -1, the 20 classes are 0..19"),
        (cifar100, official_file(fine_labels=[0, 1]), "3 images and 2 labels"),
        (cifar100, official_file(data=PIXELS[:, :7]), "cannot be read"),
        (cifar100, official_file()[:-300], "cannot be read"),
        (cifar100, pickle.dumps({b"data": os.system}), "names posix.system"),
    ],
    ids=["label too large", "negative label", "fewer labels", "other size", "truncated", "hostile"],
)
def test_a_file_of_another_content_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: ModuleType, content: bytes, named: str
) -> None:
    path = write_official(tmp_path, "directory", content, monkeypatch)
    with refused() as messages:
        source.read(Shard(path, TRAIN, 0, 0))
    assert str(path) in messages[0] and named in messages[0]


def test_a_file_that_is_not_the_official_one_is_refused_with_both_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_official(tmp_path, "directory", official_file(), monkeypatch)
    monkeypatch.setitem(cifar100._MD5, TRAIN, "0" * 32)
    with refused() as messages:
        cifar100.read(Shard(path, TRAIN, 0, 0))
    assert hashlib.md5(official_file()).hexdigest() in messages[0] and "0" * 32 in messages[0]


@pytest.mark.parametrize("content", [b"", b"<html>no such page</html>", b"\x1f\x8b\x08"])
def test_a_file_that_is_no_archive_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(content)
    monkeypatch.setattr(cifar100, "_ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    with refused() as messages:
        cifar100.read(Shard(path, TRAIN, 0, 0))
    assert f"{path} cannot be read" in messages[0]


def test_cifar_100_that_cannot_be_had_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(cifar100, "URL", f"{NOWHERE}/cifar-100-python.tar.gz")
    with refused() as messages:
        cifar100.locate(in_directory(tmp_path))
    assert f"put cifar-100-python.tar.gz into {tmp_path}" in messages[0]
    assert list(tmp_path.iterdir()) == []
