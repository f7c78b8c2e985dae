"""The real data sets through their real sources: minutes, a download, hence `--long`."""

import hashlib
import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import IMAGE
from longtail.data.sources import cifar10
from tests.conftest import RunJob
from tests.sources import in_directory

pytestmark = pytest.mark.long

# Of CIFAR-10's training images, (50000, 32, 32, 3) uint8, as published.
TRAIN_PIXELS_SHA256 = "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests of this file, so that CIFAR-10 is fetched once."""
    return tmp_path_factory.mktemp("data")


def test_cifar10_comes_whole_and_in_order(data_dir: Path):
    located = cifar10.locate(in_directory(data_dir))
    digest = hashlib.sha256()
    for shard in located.shards:
        if shard.split == TRAIN:
            for image in cifar10.read(shard).column(IMAGE):
                digest.update(image.as_buffer())
    assert digest.hexdigest() == TRAIN_PIXELS_SHA256


def test_cifar10_lt_has_the_published_size(job: RunJob, data_dir: Path):
    done = job("prepare", "--dataset", "cifar10", "--imb_factor", 0.01, "--data_dir", data_dir)
    assert done.returncode == 0, done.stderr
    (set_dir,) = data_dir.glob("prepared/cifar10-exp-imb0.01-n5000-s0-*")
    counts = json.loads((set_dir / "manifest.json").read_text())["counts"]
    assert sum(counts["train"]) == 12_406 and counts["train"][0] == 5000 and counts["train"][-1] == 50
    assert counts["test"] == [1000] * 10
    rows = pq.ParquetDataset(set_dir / "rows").read(columns=["id", "label", "split"]).to_pandas()
    assert len(rows) == 12_406 + 10_000 and rows["id"].is_unique


def test_cifar10_goes_through_the_pipeline(job: RunJob, data_dir: Path, tmp_path: Path):
    """A twentieth of the data set, two epochs, a small network: that every joint holds, not that it learns."""
    size = ["--n_max", 100, "--imb_factor", 0.1, "--imb_factor_unlabel", 0.1, "--epochs", 2]
    quick = ["--arch", "tests.written_network:small", "--eval_every", 2]
    arguments = ["--dataset", "cifar10", *size, *quick, "--data_dir", data_dir]
    done = job("pipeline", *arguments)
    assert done.returncode == 0, done.stderr
    (comparison,) = tmp_path.glob("runs/*/comparison.json")
    assert json.loads(comparison.read_text())["semi"]["splits"]["test"]["totals"]["support"] == [1000] * 10
    assert re.search(r"live: train_semi epoch 2/2", done.stdout)


def test_fashion_mnist_is_prepared_from_the_official_files(job: RunJob, data_dir: Path):
    assert os.path.isdir("/usr/share/datasets/fashion-mnist"), "apt-get install dataset-fashion-mnist"
    done = job("prepare", "--dataset", "fashion_mnist", "--imb_factor", 0.02, "--data_dir", data_dir)
    assert done.returncode == 0, done.stderr
    (set_dir,) = data_dir.glob("prepared/fashion_mnist-*")
    counts = json.loads((set_dir / "manifest.json").read_text())["counts"]
    # int(6000 * 0.02^(i / 9)) by hand for the ends; the test set whole.
    assert (counts["train"][0], counts["train"][-1]) == (6000, 120)
    assert counts["test"] == [1000] * 10
