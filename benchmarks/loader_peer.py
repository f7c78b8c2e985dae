"""One peer of benchmarks/loader.py in an interpreter of its own; knows nothing of longtail.

    python benchmarks/loader_peer.py petastorm|mosaicml FILES... --directory DIR --shape H,W,C --batch_size N

petastorm wants an older pyarrow than longtail, and mosaicml-streaming is
imported by the name of one of longtail's packages. FILES are the Parquet files
of the split. Writes its copy of the data if it needs one, says "ready", and for
every line on standard input answers "speeds" with the images/s of a first pass,
opening included, and of a second pass with the reader kept.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

Passes = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def petastorm(files: list[Path], arguments: argparse.Namespace) -> Callable[[], Passes]:
    """The set's own files; row groups shuffled, then rows in a buffer of 1,000, as for webdataset."""
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader
    from petastorm.transform import TransformSpec

    shape = arguments.shape

    def decode(rows):
        rows["image"] = [np.frombuffer(image, np.uint8).reshape(shape) for image in rows["image"]]
        return rows

    spec = TransformSpec(decode, edit_fields=[("image", np.uint8, shape, False)], selected_fields=["image", "label"])
    urls = [f"file://{file.absolute()}" for file in files]

    def open_files() -> Passes:
        def one_pass() -> Iterator[tuple[Tensor, Tensor]]:
            # A reader of one epoch cannot be taken back to its beginning: each pass opens one. In the process itself:
            # its thread pool (0.13.1) sometimes ends an epoch of few row groups without a row.
            with make_batch_reader(
                urls,
                schema_fields=["image", "label"],
                transform_spec=spec,
                num_epochs=1,
                reader_pool_type="dummy",
            ) as reader:
                loader = BatchedDataLoader(
                    reader, batch_size=arguments.batch_size, shuffling_queue_capacity=1000 + arguments.batch_size
                )
                for batch in loader:
                    yield batch["image"].permute(0, 3, 1, 2), batch["label"]

        return one_pass

    return open_files


def mosaicml(files: list[Path], arguments: argparse.Namespace) -> Callable[[], Passes]:
    """Its own shards of raw arrays, shuffled as it does by default."""
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    from streaming import MDSWriter, StreamingDataset

    shape = arguments.shape
    columns = {"image": f"ndarray:uint8:{','.join(map(str, shape))}", "label": "int32"}
    target = arguments.directory / "mds"
    with MDSWriter(out=str(target), columns=columns) as writer:
        for image, label in rows_of(files):
            writer.write({"image": np.frombuffer(image, np.uint8).reshape(shape), "label": np.int32(label)})

    class Images(StreamingDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            sample = super().__getitem__(index)
            return torch.from_numpy(sample["image"].copy()).permute(2, 0, 1), int(sample["label"])

    def open_files() -> Passes:
        clean_stale_shared_memory()
        images = Images(local=str(target), shuffle=True, batch_size=arguments.batch_size)
        loader = DataLoader(images, batch_size=arguments.batch_size)
        return lambda: iter(loader)

    return open_files


def rows_of(files: list[Path]) -> Iterator[tuple[bytes, int]]:
    for file in files:
        table = pq.ParquetFile(file).read(["image", "label"])
        yield from zip(table.column("image").to_pylist(), table.column("label").to_pylist(), strict=True)


def images_per_second(open_reader: Callable[[], Passes], shape: tuple[int, int, int], num_images: int) -> list[float]:
    height, width, channels = shape
    speeds = []
    started = time.monotonic()
    one_pass = open_reader()
    for _ in range(2):
        seen = 0
        for images, labels in one_pass():
            assert images.shape[1:] == (channels, height, width) and images.dtype == torch.uint8, images.shape
            assert len(images) == len(labels)
            seen += len(images)
        assert seen == num_images, (seen, num_images)
        speeds.append(num_images / (time.monotonic() - started))
        started = time.monotonic()
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["petastorm", "mosaicml"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    arguments = parser.parse_args()
    arguments.shape = tuple(map(int, arguments.shape.split(",")))
    assert len(arguments.shape) == 3 and math.prod(arguments.shape) > 0
    torch.set_num_threads(1)
    num_images = sum(pq.ParquetFile(file).metadata.num_rows for file in arguments.files)
    open_reader = {"petastorm": petastorm, "mosaicml": mosaicml}[arguments.peer](arguments.files, arguments)
    print("ready", flush=True)
    for _ in sys.stdin:
        print("speeds", *images_per_second(open_reader, arguments.shape, num_images), flush=True)


if __name__ == "__main__":
    main()
