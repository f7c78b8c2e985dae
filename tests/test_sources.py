"""The sources of digits and Fashion-MNIST: what their files become, and that damaged ones are refused by name."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ID, IMAGE, LABEL, SOURCE_SCHEMA, SPLIT
from longtail.data.sources import digits, fashion_mnist
from longtail.data.sources.base import Shard, source_batch
from tests.refusals import refused
from tests.sources import in_directory

# Nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would be asked even for this machine's own addresses."""
    monkeypatch.setenv("no_proxy", "*")


def digits_batches() -> dict[str, pa.RecordBatch]:
    return {shard.split: digits.read(shard) for shard in digits.locate(in_directory(Path("unused"))).shards}


def test_digits_have_fifty_test_images_of_each_class() -> None:
    batches = digits_batches()
    assert batches[TEST].num_rows == 500
    assert np.bincount(batches[TEST].column(LABEL)).tolist() == [50] * 10
    # scikit-learn's 178, 182, 177, ... images a digit, less 50.
    assert np.bincount(batches[TRAIN].column(LABEL)).tolist() == [128, 132, 127, 133, 131, 132, 131, 129, 124, 130]


def test_digits_have_rows_of_the_contract_with_ids_of_their_own() -> None:
    batches = digits_batches()
    assert all(batch.schema == SOURCE_SCHEMA for batch in batches.values())
    assert all(set(batch.column(SPLIT).to_pylist()) == {split} for split, batch in batches.items())
    ids = sorted(np.concatenate([batch.column(ID) for batch in batches.values()]))
    assert ids == list(range(1797))


def test_the_pixels_of_digits_use_the_range_of_a_byte() -> None:
    images = [np.frombuffer(image, np.uint8) for image in digits_batches()[TRAIN].column(IMAGE).to_pylist()]
    assert {len(image) for image in images} == {8 * 8}
    # Grey levels 0 to 16, times 255 / 16, rounded.
    assert np.unique(images).tolist() == [
        0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255,
    ]  # fmt: skip


def test_the_first_digit_is_the_zero_that_scikit_learn_begins_with() -> None:
    batch = digits_batches()[TEST]
    assert batch.column(LABEL)[0].as_py() == 0
    first_row = np.frombuffer(batch.column(IMAGE)[0].as_py(), np.uint8)[:8]
    assert first_row.tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0, 0, 5, 13, 9, 1, 0, 0 of 16


def idx_files(images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    """The two idx files of the training split, unpacked: magic number, sizes, bytes."""
    image_header = b"".join(n.to_bytes(4, "big") for n in (0x803, *images.shape))
    label_header = b"".join(n.to_bytes(4, "big") for n in (0x801, len(labels)))
    return {
        "train-images-idx3-ubyte.gz": image_header + images.tobytes(),
        "train-labels-idx1-ubyte.gz": label_header + labels.tobytes(),
    }


@pytest.fixture
def small_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """A directory with three training images, known by their hashes as the official ones are; and the images."""
    images = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    for name, content in idx_files(images, np.array([9, 0, 4], np.uint8)).items():
        (tmp_path / name).write_bytes(gzip.compress(content))
        monkeypatch.setitem(fashion_mnist._SHA256, name, hashlib.sha256(content).hexdigest())
    return tmp_path, images


def test_idx_files_become_rows(small_fashion_mnist: tuple[Path, np.ndarray]) -> None:
    directory, images = small_fashion_mnist
    batch = fashion_mnist.read(Shard(directory, TRAIN, 0, 70))
    assert batch.schema == SOURCE_SCHEMA
    assert batch.column(ID).to_pylist() == [70, 71, 72]
    assert batch.column(LABEL).to_pylist() == [9, 0, 4]
    assert batch.column(IMAGE).to_pylist() == [image.tobytes() for image in images]


def test_idx_files_of_another_content_are_refused_by_name(tmp_path: Path) -> None:
    files = idx_files(np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8))
    for name, content in files.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
    with refused() as messages:
        fashion_mnist.read(Shard(tmp_path, TRAIN, 0, 0))
    assert f"{tmp_path}/train-images-idx3-ubyte.gz is not the official file" in messages[0]
    assert hashlib.sha256(files["train-images-idx3-ubyte.gz"]).hexdigest() in messages[0]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize("damage", ["truncated", "not deflated", "not gzip", "empty", "missing"])
def test_a_damaged_idx_file_is_refused_by_name(
    small_fashion_mnist: tuple[Path, np.ndarray], name: str, damage: str
) -> None:
    directory, _ = small_fashion_mnist
    content = (directory / name).read_bytes()
    middle = len(content) // 2
    damaged = {
        "truncated": content[:middle],
        # After the ten bytes of the header, a block of the kind that deflate does not know.
        "not deflated": content[:10] + b"\xff" * 20 + content[30:],
        "not gzip": b"<html>no such page</html>",
        "empty": b"",
    }
    (directory / name).unlink()
    if damage in damaged:
        (directory / name).write_bytes(damaged[damage])
    with refused() as messages:
        fashion_mnist.read(Shard(directory, TRAIN, 0, 0))
    assert str(directory / name) in messages[0] and "delete it and run again" in messages[0]


def test_an_idx_file_that_unpacks_to_more_than_the_official_one_is_refused(tmp_path: Path) -> None:
    """A gigabyte of zeros takes a megabyte packed."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(bytes(10**6))
    with refused() as messages:
        fashion_mnist.read(Shard(tmp_path, TRAIN, 0, 0))
    assert messages[0] == f"{path} has more than 47040016 bytes unpacked, which is no official file: delete it"


def test_images_without_their_labels_are_refused(
    small_fashion_mnist: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = small_fashion_mnist
    name, content = "train-labels-idx1-ubyte.gz", bytes.fromhex("0000080100000002") + bytes([1, 2])
    (directory / name).write_bytes(gzip.compress(content))
    monkeypatch.setitem(fashion_mnist._SHA256, name, hashlib.sha256(content).hexdigest())
    with refused() as messages:
        fashion_mnist.read(Shard(directory, TRAIN, 0, 0))
    assert "3 images and 2 labels" in messages[0]


def test_fashion_mnist_is_looked_for_in_the_data_directory_then_where_debian_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, debian = tmp_path / "data", tmp_path / "debian"
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", debian)
    monkeypatch.setattr(fashion_mnist, "OFFICIAL_URL", NOWHERE)
    # From the last place to the first, each goes before those that are there already.
    for directory in (debian, data_dir / "fashion-mnist", data_dir):
        directory.mkdir(parents=True, exist_ok=True)
        for name in fashion_mnist._SHA256:
            (directory / name).touch()
        located = fashion_mnist.locate(in_directory(data_dir))
        assert {shard.path for shard in located.shards} == {directory}
        assert [(shard.split, shard.first_id) for shard in located.shards] == [(TRAIN, 0), (TEST, 60_000)]


def test_fashion_mnist_that_is_nowhere_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "OFFICIAL_URL", NOWHERE)
    with refused() as messages:
        fashion_mnist.locate(in_directory(tmp_path))
    assert f"{NOWHERE}/train-images-idx3-ubyte.gz cannot be downloaded" in messages[0]
    assert "apt-get install dataset-fashion-mnist" in messages[0]


@pytest.mark.parametrize(
    "images", [np.zeros((1, 2, 2, 3), np.float32), np.broadcast_to(np.uint8(0), (2, 2**15, 2**15, 1))]
)
def test_a_shard_that_does_not_fit_its_column_is_refused(images: np.ndarray) -> None:
    shard = Shard(Path("own.bin"), TRAIN, 0, 0)
    with pytest.raises(ValueError, match="less than 2 GiB of uint8 pixels"):
        source_batch(shard, images, np.zeros(len(images), np.int64))
