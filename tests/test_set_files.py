"""The files that a task of a preparation writes (data/set_files.py)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.data.checksums import rows_checksum
from longtail.data.set_files import SetFiles, WrittenSplit


def rows_of(first: int, size: int) -> pa.RecordBatch:
    """100 images of 1,000 bytes."""
    ids = np.arange(first, first + 100)
    columns = [
        pa.array(ids), pa.array([bytes([i % 256]) * size for i in ids]), pa.array((ids % 3).astype(np.int32)),
        pa.nulls(100, pa.int32()),
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, names=["id", "image", "label", "hidden_label"])


@pytest.fixture
def set_dir(tmp_path: Path) -> Path:
    (tmp_path / "rows" / "split=train").mkdir(parents=True)
    return tmp_path


def files_of(set_dir: Path) -> list[Path]:
    return sorted(file for file in (set_dir / "rows").rglob("*") if file.is_file())


@pytest.mark.parametrize("mix", [False, True])
def test_rows_go_to_files_of_the_size_in_order_or_mixed(set_dir: Path, mix: bool) -> None:
    batches = [rows_of(0, 1000), rows_of(100, 1000), rows_of(200, 1000)]
    hashes = np.random.default_rng(0).permutation(300)
    with SetFiles(set_dir, 7, mix=mix, file_bytes=120_000) as files:
        for number, batch in enumerate(batches):
            files.add("train", batch, hashes[100 * number : 100 * number + 100])
        (written,) = files.finish()

    assert written == WrittenSplit("train", sum(map(rows_checksum, batches)), {0: 100, 1: 100, 2: 100})
    found = files_of(set_dir)
    assert [file.name for file in found] == [f"part-00007-{number:03d}.parquet" for number in range(3)]
    table = pa.concat_tables(pq.ParquetFile(file).read() for file in found)
    assert table["id"].to_pylist() == (np.argsort(hashes).tolist() if mix else list(range(300)))
    assert rows_checksum(table.combine_chunks()) == written.checksum % 2**256
    assert [pq.ParquetFile(file).metadata.num_rows for file in found] == [120, 120, 60]


def test_pages_of_large_images_are_small(set_dir: Path) -> None:
    with SetFiles(set_dir, 0, mix=False) as files:
        files.add("train", rows_of(0, 200_000), np.arange(100))
        files.finish()

    (file,) = files_of(set_dir)
    groups = [pq.ParquetFile(file).metadata.row_group(i) for i in range(pq.ParquetFile(file).num_row_groups)]
    assert [group.num_rows for group in groups] == [84, 16]  # 16 MiB begin within the 84th image


def test_after_an_error_nothing_half_written_is_left(set_dir: Path) -> None:
    with pytest.raises(OSError, match="no more"), SetFiles(set_dir, 0, mix=False, file_bytes=50_000) as files:
        files.add("train", rows_of(0, 1000), np.arange(100))
        files._splits["train"]._write_rows()
        assert any(file.name.startswith(".") for file in files_of(set_dir))
        raise OSError("no more")

    assert [pq.ParquetFile(file).metadata.num_rows for file in files_of(set_dir)] == [50]


def test_a_directory_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), SetFiles(tmp_path / "gone", 0, mix=False) as files:
        files.add("train", rows_of(0, 1000), np.arange(100))
        files.finish()

    assert list(tmp_path.iterdir()) == []
