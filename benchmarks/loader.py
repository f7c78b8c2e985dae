"""How fast a prepared set is read: data/loader.py beside what people usually read small images with.

    python benchmarks/loader.py --set_dir datasets/prepared/cifar10-... [--split train] [--rounds 3]
        [--petastorm_python VENV/bin/python] [--mosaicml_python VENV/bin/python]

Every reader gives the same images and labels, shuffled, in batches of 128 uint8
tensors (N, C, H, W). Timed is a first pass, from opening the files to the last
batch, and a second pass with the reader kept. The readers take turns, round by
round, in one process; each peer's copy of the data is written before:

- longtail: the set's Parquet files through data.loader.load_split, batches indexed from its one array;
- longtail, streamed: the same files through data.stream, row group by row group, as one that does not fit into memory;
- torchvision: pickled batches as its CIFAR10 class opens them, a PIL image each, PILToTensor, DataLoader;
- datasets: the set's own Parquet files through Hugging Face datasets, decoded by a batch transform, DataLoader;
- webdataset: a tar file of raw pixels and labels, shuffle buffer of 1,000, WebLoader;
- petastorm: the set's own Parquet files, decoded by a transform of whole row groups, BatchedDataLoader;
- mosaicml: mosaicml-streaming's shards of raw arrays, StreamingDataset, DataLoader.

The last two run in a process of their own, in an environment of their own, which takes its turns like the others:
petastorm needs an old pyarrow (`pip install "pyarrow==11.0.0" "numpy<2" setuptools petastorm torch`);
mosaicml-streaming is imported by the name of one of longtail's packages (`pip install mosaicml-streaming`).

DataLoaders run in the process itself (num_workers=0): on few cores their
workers take the core that they are to relieve. --num_workers changes that. A
peer that is not installed is left out, and said so. Prints the median images/s
over the rounds and how many times faster longtail is.
"""

import argparse
import importlib.util
import io
import pickle
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from longtail.data.contract import IMAGE, LABEL, split_directory
from longtail.data.loader import ImageArrays, load_split, split_files
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.stream import epoch_orders, open_split, read_images
from longtail.training.images import image_tensor, select_images

BATCH_SIZE = 128
SHUFFLE_BUFFER = 1000
IN_OWN_ENVIRONMENT = ("petastorm", "mosaicml")

Passes = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""One pass over the data: batches of images (N, C, H, W) uint8 and labels (N,)."""
Opener = Callable[[], Passes]


def longtail(set_dir: Path, split: str, manifest: Manifest) -> Opener:
    def open_set() -> Passes:
        arrays = load_split(set_dir, split, manifest)
        images, labels = image_tensor(arrays.images), torch.from_numpy(arrays.labels)

        def one_pass() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
                yield select_images(images, batch), labels[batch]

        return one_pass

    return open_set


def longtail_streamed(set_dir: Path, split: str, manifest: Manifest) -> Opener:
    def open_set() -> Passes:
        found = open_split(set_dir, split, manifest)
        labels, generator = torch.from_numpy(found.labels), np.random.default_rng()

        def one_pass() -> Iterator[tuple[Tensor, Tensor]]:
            (order,) = epoch_orders(found.images, world_size=1, shuffle_buffer=SHUFFLE_BUFFER, generator=generator)
            batches = np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE))
            for batch, images in zip(batches, read_images(found.images, batches), strict=True):
                yield image_tensor(images), labels[batch]

        return one_pass

    return open_set


class PilImages(Dataset):
    """Pickled batches of rows, as torchvision.datasets.CIFAR10 keeps and serves them."""

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        content = pickle.loads(file.read_bytes())
        height, width, channels = shape
        self.images = content["data"].reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        self.labels = content["labels"]
        self.transform = transforms.PILToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].squeeze())), self.labels[index]


def torchvision(arrays: ImageArrays, directory: Path, num_workers: int) -> Opener:
    rows = arrays.images.transpose(0, 3, 1, 2).reshape(len(arrays.images), -1)
    file = directory / "data_batch_1"
    file.write_bytes(pickle.dumps({"data": rows, "labels": arrays.labels.tolist()}))

    def open_files() -> Passes:
        images = PilImages(file, arrays.images.shape[1:])
        loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)
        return lambda: iter(loader)

    return open_files


def hugging_face(set_dir: Path, split: str, manifest: Manifest, directory: Path, num_workers: int) -> Opener:
    from datasets import Dataset as ArrowDataset

    height, width, channels = manifest.image_shape
    files = [str(file) for file in sorted(split_directory(set_dir, split).glob("*.parquet"))]
    # Its copy of the data, which later openings memory-map.
    ArrowDataset.from_parquet(files, cache_dir=str(directory))

    def decode(rows: dict[str, list]) -> dict[str, list]:
        pixels = np.frombuffer(b"".join(rows[IMAGE]), np.uint8).reshape(-1, height, width, channels)
        return {IMAGE: list(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)), LABEL: rows[LABEL]}

    def open_files() -> Passes:
        table = ArrowDataset.from_parquet(files, cache_dir=str(directory)).select_columns([IMAGE, LABEL])
        loader = DataLoader(table.with_transform(decode), batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)
        return lambda: ((batch[IMAGE], batch[LABEL]) for batch in loader)

    return open_files


def webdataset(arrays: ImageArrays, directory: Path, num_workers: int) -> Opener:
    import webdataset as wds

    file = directory / "images.tar"
    with tarfile.open(file, "w") as archive:
        for i, (image, label) in enumerate(zip(arrays.images, arrays.labels, strict=True)):
            for suffix, content in (("bin", image.tobytes()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{i:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    shape = arrays.images.shape[1:]

    def decode(sample: tuple[bytes, bytes]) -> tuple[Tensor, int]:
        pixels = np.frombuffer(sample[0], np.uint8).reshape(shape)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1), int(sample[1])

    def open_files() -> Passes:
        samples = (
            wds.WebDataset(str(file), shardshuffle=False).shuffle(SHUFFLE_BUFFER).to_tuple("bin", "cls").map(decode)
        )
        loader = wds.WebLoader(samples, batch_size=BATCH_SIZE, num_workers=num_workers)
        return lambda: iter(loader)

    return open_files


def count_images(one_pass: Passes, shape: tuple[int, int, int]) -> int:
    height, width, channels = shape
    num_images = 0
    for images, labels in one_pass():
        assert images.shape[1:] == (channels, height, width) and images.dtype == torch.uint8
        assert len(images) == len(labels)
        num_images += len(images)
    return num_images


def time_reader(open_reader: Opener, manifest: Manifest, num_images: int) -> tuple[float, float]:
    """Images/s of the first pass, opening included, and of the second."""
    speeds = []
    started = time.monotonic()
    one_pass = open_reader()
    for _ in range(2):
        assert count_images(one_pass, manifest.image_shape) == num_images
        speeds.append(num_images / (time.monotonic() - started))
        started = time.monotonic()
    return speeds[0], speeds[1]


@contextmanager
def peer_process(
    peer: str, python: Path, set_dir: Path, split: str, manifest: Manifest, directory: Path
) -> Iterator[Callable[[], tuple[float, float]]]:
    """What time_reader gives, measured by a peer in an interpreter of its own each time it is called."""
    command = [python, Path(__file__).with_name("loader_peer.py"), peer, *split_files(set_dir, split)]
    command += ["--directory", directory, "--shape", ",".join(map(str, manifest.image_shape))]
    process = subprocess.Popen(
        [*map(str, command), "--batch_size", str(BATCH_SIZE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=directory,  # not longtail's root, where its package `streaming` lies
        env={"PATH": "/usr/bin:/bin"},
    )

    def answer(word: str) -> list[str]:
        # Libraries print lines of their own.
        for line in process.stdout:
            if line.startswith(word):
                return line.split()[1:]
        raise RuntimeError(f"{peer} does not run: try {' '.join(map(str, command))}")

    def measure() -> tuple[float, float]:
        print(file=process.stdin, flush=True)
        first, second = map(float, answer("speeds"))
        return first, second

    try:
        answer("ready")
        yield measure
    finally:
        process.stdin.close()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument("--split", default="train", choices=["train", "test"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num_workers", type=int, default=0)
    for peer in IN_OWN_ENVIRONMENT:
        parser.add_argument(f"--{peer}_python", type=Path, help=f"interpreter of an environment that has {peer}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    manifest = read_manifest(arguments.set_dir)
    arrays = load_split(arguments.set_dir, arguments.split, manifest)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as processes:
        directory, workers = Path(temporary), arguments.num_workers
        readers = {
            "longtail": longtail(arguments.set_dir, arguments.split, manifest),
            "longtail, streamed": longtail_streamed(arguments.set_dir, arguments.split, manifest),
            "torchvision": torchvision(arrays, directory, workers),
        }
        if importlib.util.find_spec("datasets"):
            readers["datasets"] = hugging_face(arguments.set_dir, arguments.split, manifest, directory, workers)
        if importlib.util.find_spec("webdataset"):
            readers["webdataset"] = webdataset(arrays, directory, workers)
        measures: dict[str, Callable[[], tuple[float, float]]] = {
            name: partial(time_reader, open_reader, manifest, len(arrays.ids)) for name, open_reader in readers.items()
        }
        for peer in IN_OWN_ENVIRONMENT:
            if (python := getattr(arguments, f"{peer}_python")) is not None:
                of_peer = peer_process(
                    peer, python.absolute(), arguments.set_dir.absolute(), arguments.split, manifest, directory
                )
                measures[peer] = processes.enter_context(of_peer)
        left_out = {"datasets", "webdataset", *IN_OWN_ENVIRONMENT} - set(measures)
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
        for _ in range(arguments.rounds):
            for name, measure in measures.items():
                speeds[name].append(measure())
    print(
        f"{manifest.dataset}, {arguments.split}, {len(arrays.ids)} images of {manifest.image_shape}, "
        f"batch {BATCH_SIZE}, {workers} workers, median of {arguments.rounds} rounds"
    )
    medians = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in speeds.items()
    }
    for name, (first, second) in medians.items():
        ours_first, ours_second = (
            ours / theirs for ours, theirs in zip(medians["longtail"], (first, second), strict=True)
        )
        print(
            f"{name:<18} first pass {first:9.0f} images/s (longtail {ours_first:6.1f} x)   "
            f"second pass {second:9.0f} images/s (longtail {ours_second:6.1f} x)"
        )
    for name in sorted(left_out):
        print(f"{name:<18} left out: {f'no --{name}_python' if name in IN_OWN_ENVIRONMENT else 'not installed'}")


if __name__ == "__main__":
    main()
