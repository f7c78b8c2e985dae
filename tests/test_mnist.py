"""The source of MNIST and the reader of idx files, which Fashion-MNIST shares."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ID, IMAGE, LABEL, SOURCE_SCHEMA
from longtail.data.sources import mnist
from longtail.data.sources.base import Shard
from longtail.data.sources.idx_files import parse_idx
from tests.refusals import refused
from tests.sources import in_directory

# Nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9"

IMAGES = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
# Magic number, sizes, bytes.
IMAGE_FILE = bytes.fromhex("00000803 00000002 0000001c 0000001c") + IMAGES.tobytes()
LABEL_FILE = bytes.fromhex("00000801 00000002 0703")


def write_mnist(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test split of two images, known by its hashes as the official one is; its directory."""
    directory = data_dir / "mnist"
    directory.mkdir()
    for name, content in (("t10k-images-idx3-ubyte.gz", IMAGE_FILE), ("t10k-labels-idx1-ubyte.gz", LABEL_FILE)):
        packed = gzip.compress(content)
        (directory / name).write_bytes(packed)
        monkeypatch.setitem(mnist._SHA256, name, hashlib.sha256(packed).hexdigest())
    return directory


def test_idx_files_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = mnist.read(Shard(write_mnist(tmp_path, monkeypatch), TEST, 0, 60_000))
    assert batch.schema == SOURCE_SCHEMA
    assert batch.column(ID).to_pylist() == [60_000, 60_001]
    assert batch.column(LABEL).to_pylist() == [7, 3]
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in IMAGES]


def test_a_file_that_is_not_the_official_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_mnist(tmp_path, monkeypatch)
    monkeypatch.setitem(mnist._SHA256, "t10k-labels-idx1-ubyte.gz", "0" * 64)
    with refused() as messages:
        mnist.read(Shard(directory, TEST, 0, 0))
    assert f"{directory}/t10k-labels-idx1-ubyte.gz is not the official file: SHA-256" in messages[0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (bytes.fromhex("00000801 00000002 0703"), "begins with 00000801, an idx file of 3 dimensions with 00000803"),
        (bytes.fromhex("00000d03") + IMAGE_FILE[4:], "begins with 00000d03"),
        (b"", "begins with nothing"),
        (IMAGE_FILE[:-1], "has 1567 values, its header (2, 28, 28)"),
        (IMAGE_FILE + b"\0", "has 1569 values, its header (2, 28, 28)"),
        (IMAGE_FILE[:9], "has 0 values, its header (2, 0, 0)"),
    ],
    ids=["labels", "floats", "empty", "short", "long", "half a header"],
)
def test_a_wrong_magic_number_or_size_is_refused_by_name(content: bytes, named: str) -> None:
    with refused() as messages:
        parse_idx(content, path=Path("images.gz"), num_dimensions=3)
    assert messages[0].startswith("images.gz") and named in messages[0]


def test_mnist_is_looked_for_in_a_directory_of_its_own(tmp_path: Path) -> None:
    """Fashion-MNIST's files bear the same names."""
    (tmp_path / "mnist").mkdir()
    for name in mnist._SHA256:
        (tmp_path / "mnist" / name).touch()
    located = mnist.locate(in_directory(tmp_path))
    assert {shard.path for shard in located.shards} == {tmp_path / "mnist"}
    assert [(shard.split, shard.first_id) for shard in located.shards] == [(TRAIN, 0), (TEST, 60_000)]


def test_mnist_that_is_nowhere_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mnist, "URL", NOWHERE)
    with refused() as messages:
        mnist.locate(in_directory(tmp_path))
    assert f"put the four official .gz files into {tmp_path}/mnist" in messages[0]
