"""Streamed images: each once an epoch for any number of ranks, the same again for the same seed, and byte for byte."""

import io
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from longtail.conf.base.locations import Location, location
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data import stream
from longtail.data.contract import ENCODED, HIDDEN_LABEL, ID, IMAGE, LABEL
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.data.row_groups import RowGroup
from longtail.data.storage import table_files
from longtail.data.stream import StreamedImages, epoch_orders, open_split, read_images
from longtail.training.batches import epoch_batches
from longtail.training.command import main
from longtail.training.distributed import Rank
from longtail.training.evaluation import predict_all
from longtail.training.heartbeat import Heartbeat
from longtail.training.objective import Task
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run import run_training
from longtail.training.step import Batch
from longtail.training.supervised import supervised_task
from tests.prepared_set import ROW_SCHEMA, image_rows, write_manifest, write_split
from tests.refusals import refused
from tests.tiny_set import (
    ALONE,
    COUNTS,
    paths_of,
    same_tensors,
    tiny_options,
    unlabeled_ids,
    weights_in,
    write_pseudo_labels,
    write_tiny_set,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPE = (3, 2, 4)
IMAGES = np.arange(10 * 24, dtype=np.uint8).reshape(10, *SHAPE)
LABELS = [0, 1, 0, 2, 0, 1, 0, 0, 1, 0]
# Three files of row groups of two: [8 1] [6], [3 0] [9 2], [5 7] [4]
SPREAD = [[8, 1, 6], [3, 0, 9, 2], [5, 7, 4]]


@pytest.fixture
def set_dir(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "set", {TRAIN: [6, 3, 1]}, image_shape=SHAPE)
    for number, places in enumerate(SPREAD):
        rows = image_rows([100 + i for i in places], IMAGES[places], labels=[LABELS[i] for i in places])
        write_split(tmp_path / "set", TRAIN, rows, file_name=f"part-{number}.parquet", row_group_size=2)
    return tmp_path / "set"


def streamed(set_dir: Location, split: str = TRAIN) -> stream.StreamedSplit:
    return open_split(set_dir, split, read_manifest(set_dir))


def test_a_split_is_opened_without_its_images(set_dir: Path) -> None:
    split = streamed(set_dir)
    in_file_order = [i for places in SPREAD for i in places]
    assert split.ids.tolist() == [100 + i for i in in_file_order]
    assert split.labels is not None and split.labels.tolist() == [LABELS[i] for i in in_file_order]
    assert split.images.first_rows.tolist() == [0, 2, 3, 5, 7, 9, 10]


def test_images_are_read_byte_for_byte_in_any_order(set_dir: Path) -> None:
    split = streamed(set_dir)
    batches = [np.array([9, 0, 4]), np.array([], np.int64), np.array([1, 1]), np.array([8, 7, 6, 5, 3, 2])]
    for batch, images in zip(batches, read_images(split.images, batches), strict=True):
        assert np.array_equal(images, IMAGES[split.ids[batch] - 100])
    assert list(read_images(split.images, [])) == []


def groups_of(sizes: list[int]) -> StreamedImages:
    """Row groups of these sizes, of no file."""
    first_rows = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    groups = tuple(RowGroup(Path("f"), number, size) for number, size in enumerate(sizes))
    return StreamedImages(
        image_shape=(1, 1, 1), encoding="raw", groups=groups, first_rows=first_rows, rows=np.arange(first_rows[-1])
    )


SIZES = [40, 1, 7, 40, 40, 13, 40, 0, 40]  # 221


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shuffle_buffer", [1, 50, 1000])
def test_every_image_is_given_once_an_epoch_whatever_the_ranks(world_size: int, shuffle_buffer: int) -> None:
    orders = epoch_orders(
        groups_of(SIZES), world_size=world_size, shuffle_buffer=shuffle_buffer, generator=np.random.default_rng(3)
    )
    assert sorted(np.concatenate(orders).tolist()) == list(range(221))
    assert {len(order) for order in orders} <= {221 // world_size, 221 // world_size + 1}


def test_an_epoch_is_reproducible_and_depends_on_the_seed() -> None:
    def order(seed: int) -> list[int]:
        generator = np.random.default_rng(seed)
        return epoch_orders(groups_of(SIZES), world_size=2, shuffle_buffer=50, generator=generator)[0].tolist()

    assert order(1) == order(1) != order(2)


def most_buffered(order: np.ndarray, sequence: np.ndarray) -> int:
    """How many images are read and not yet given at the worst moment, when ``sequence`` is read no further than due."""
    place = {image: i for i, image in enumerate(sequence.tolist())}
    arrival = np.array([place[image] for image in order.tolist()])
    read = np.maximum.accumulate(arrival + 1)
    return int((read - np.arange(len(order))).max())


def test_the_buffer_holds_no_more_than_it_may_and_mixes_what_it_holds() -> None:
    images = groups_of([20] * 100)
    sequence = epoch_orders(images, world_size=1, shuffle_buffer=1, generator=np.random.default_rng(0))[0]
    assert [len(set((sequence // 20)[i : i + 20].tolist())) for i in range(0, 2000, 20)] == [1] * 100, "group by group"
    (order,) = epoch_orders(images, world_size=1, shuffle_buffer=300, generator=np.random.default_rng(0))
    # The same generator draws the same order of the groups first.
    assert 150 < most_buffered(order, sequence) <= 300
    in_a_batch = [len(set((order // 20)[i : i + 100].tolist())) for i in range(300, 1700, 100)]
    assert min(in_a_batch) >= 10, "a batch meets images of many row groups"


def test_two_neighbouring_ranks_share_at_most_one_row_group() -> None:
    images = groups_of([20] * 7)
    orders = epoch_orders(images, world_size=3, shuffle_buffer=30, generator=np.random.default_rng(0))
    of_rank = [set((order // 20).tolist()) for order in orders]
    assert len(of_rank[0] & of_rank[1]) <= 1 and len(of_rank[1] & of_rank[2]) <= 1 and not of_rank[0] & of_rank[2]


def test_images_are_repeated_as_often_as_asked() -> None:
    repeats = np.random.default_rng(0).integers(0, 4, 221)
    orders = epoch_orders(
        groups_of(SIZES), world_size=2, shuffle_buffer=50, generator=np.random.default_rng(0), repeats=repeats
    )
    assert np.bincount(np.concatenate(orders), minlength=221).tolist() == repeats.tolist()
    assert abs(len(orders[0]) - len(orders[1])) <= 1


def test_a_row_group_is_read_once_and_released_after_its_last_image(
    set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, held = [], []
    read_group, gather = stream.read_image_column, stream._gather
    monkeypatch.setattr(stream, "read_image_column", lambda group: read.append(group.index) or read_group(group))
    monkeypatch.setattr(stream, "_gather", lambda images, groups, *rest: held.append(len(groups)) or gather(
        images, groups, *rest
    ))  # fmt: skip
    split = streamed(set_dir)
    batches = [np.array(places) for places in ([0, 2], [1, 3], [4], [5, 6], [7, 8, 9])]
    list(read_images(split.images, batches))
    assert len(read) == 6
    assert held == [2, 2, 1, 1, 2]


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_set_behind_a_url_is_read_like_one_on_this_machine(set_dir: Path, scheme: str) -> None:
    url = f"file://{set_dir}"
    if scheme == "memory":
        url = "memory://bucket/set"
        fsspec.filesystem("memory").put(str(set_dir), "/bucket/set", recursive=True)
    place = location(url)
    manifest = read_manifest(place)
    assert manifest == read_manifest(set_dir)
    loaded, here = load_split(place, TRAIN, manifest), load_split(set_dir, TRAIN, manifest)
    assert np.array_equal(loaded.images, here.images) and np.array_equal(loaded.ids, here.ids)
    split = streamed(place)
    (images,) = read_images(split.images, [np.arange(10)])
    assert np.array_equal(images, IMAGES[split.ids - 100])


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("memory://no/such/set", "memory://no/such/set is not a prepared data set"),
        ("memory://no/manifest.json", "memory://no/manifest.json is not a prepared data set"),
    ],
)
def test_a_url_without_a_set_is_refused_by_name(url: str, named: str) -> None:
    with refused() as messages:
        read_manifest(location(url))
    assert named in messages[0]


def test_hidden_names_behind_a_url_are_ignored() -> None:
    files = fsspec.filesystem("memory")
    for name in ("a.parquet", "_temporary/b.parquet", ".c.parquet", "d.txt", "e/f.parquet"):
        files.pipe(f"/hidden/t/{name}", b"")
    found = [str(file).rpartition("/t/")[2] for file in table_files(location("memory://hidden/t"))]
    assert found == ["a.parquet", "e/f.parquet"]
    assert table_files(location("memory://hidden/t/a.parquet")) == [location("memory://hidden/t/a.parquet")]


def test_files_of_an_encoded_set_are_decoded_in_the_order_of_the_batch(tmp_path: Path) -> None:
    contents = []
    for grey in range(7):
        file = io.BytesIO()
        Image.fromarray(np.full((6, 4, 3), 30 * grey, np.uint8)).save(file, "PNG")
        contents.append(file.getvalue())
    columns = {ID: list(range(7)), IMAGE: contents, LABEL: [0, 1] * 3 + [0], HIDDEN_LABEL: [None] * 7}
    write_manifest(tmp_path, {TRAIN: [4, 3]}, image_shape=(2, 2, 3), encoding=ENCODED)
    write_split(tmp_path, TRAIN, pa.table(columns, schema=ROW_SCHEMA), row_group_size=2)
    (images,) = read_images(streamed(tmp_path).images, [np.array([6, 0, 3, 3, 5, 1])])
    assert images[:, 0, 0, 0].tolist() == [180, 0, 90, 90, 150, 30]


def test_a_file_that_is_damaged_while_it_is_streamed_is_refused_by_name(set_dir: Path) -> None:
    split = streamed(set_dir)
    file = next((set_dir / "rows" / "split=train").glob("part-1.parquet"))
    content = bytearray(file.read_bytes())
    while (place := content.find(IMAGES[9].tobytes())) >= 0:  # in the page, and in its statistics
        content[place] ^= 1
    file.write_bytes(content)
    with refused() as messages:
        list(read_images(split.images, [np.arange(10)]))
    assert f"{file} is damaged" in messages[0]


def test_rows_that_are_not_those_of_the_manifest_are_refused(set_dir: Path) -> None:
    (set_dir / "rows" / "split=train" / "part-2.parquet").unlink()
    with refused() as messages:
        streamed(set_dir)
    assert "has 7 images, its manifest 10" in messages[0]


# Training from files.


@pytest.fixture
def tiny_set(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "tiny")


STREAMED = {"max_resident_gib": 0, "shuffle_buffer": 12}


def test_the_size_decides_whether_images_stay_on_disk(tiny_set: Path) -> None:
    """40 training images of 64 bytes are 2560, 6 of validation 384, 30 of the test set 1920."""
    manifest = read_manifest(tiny_set)
    found = {}
    for limit in (0, 1920 / 2**30, 2560 / 2**30, 2559 / 2**30):
        task = supervised_task(tiny_options(TrainOptions, max_resident_gib=limit), tiny_set, manifest, CPU)
        splits = {TRAIN: task.data.train, **task.data.held_out}
        found[round(limit * 2**30)] = [split for split, of in splits.items() if isinstance(of.images, StreamedImages)]
    assert found == {0: [TRAIN, VAL, TEST], 1920: [TRAIN], 2560: [], 2559: [TRAIN]}


def test_a_training_from_files_sees_every_image_and_is_the_same_again(tiny_set: Path, tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, epochs=2, **STREAMED)
    results = [run_training(options, paths_of(tiny_set, tmp_path / name), ALONE, attempt=1) for name in ("a", "b")]
    assert results[0]["splits"][TRAIN]["totals"]["support"] == COUNTS[TRAIN]
    assert results[0]["splits"][TEST]["totals"]["support"] == COUNTS[TEST]
    assert results[0]["splits"] == results[1]["splits"]
    assert same_tensors(*(weights_in(tmp_path / name / "ckpt.pth.tar") for name in ("a", "b")))


def test_a_training_from_files_resumes_with_identical_results(tiny_set: Path, tmp_path: Path) -> None:
    whole = tiny_options(TrainOptions, epochs=2, lr_schedule="cosine", **STREAMED)
    run_training(whole, paths_of(tiny_set, tmp_path / "whole"), ALONE, attempt=1)

    class Killed(Exception):
        pass

    seen: list[str] = []

    def die_in_the_second_epoch(heartbeat: Heartbeat, activity: str) -> None:
        seen.append(activity)
        if seen.count("forward") > 4:  # three steps an epoch
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Heartbeat, "beat", die_in_the_second_epoch)
        run_training(whole, paths_of(tiny_set, tmp_path / "cut"), ALONE, attempt=1)
    run_training(whole, paths_of(tiny_set, tmp_path / "cut"), ALONE, attempt=2)
    assert same_tensors(*(weights_in(tmp_path / name / "ckpt.pth.tar") for name in ("whole", "cut")))


def test_predictions_from_files_are_those_from_memory(tiny_set: Path) -> None:
    manifest = read_manifest(tiny_set)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    found = []
    for limit in (4.0, 0.0):
        task = supervised_task(tiny_options(TrainOptions, max_resident_gib=limit), tiny_set, manifest, CPU)
        by_id = torch.argsort(task.data.held_out[TEST].ids)
        found.append(predict_all(model, task, ALONE)[TEST].values[:, by_id])
    # The manifest's deviation is numpy's, the measured one torch's.
    assert torch.allclose(found[0], found[1], atol=1e-5) and found[0].abs().max() > 0


def steps_of(task: Task, rank: Rank, *, batch_size: int, shuffle_buffer: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(4)
    return epoch_batches(
        task.data,
        task.objective.train_rule,
        batch_size,
        rank,
        epoch=0,
        num_epochs=10,
        shuffle_buffer=shuffle_buffer,
        generator=generator,
    )


def test_pseudo_labels_go_with_their_images_when_these_stay_on_disk(tiny_set: Path, tmp_path: Path) -> None:
    """Also if the files hold them in another order than that of their ids."""
    (file,) = (tiny_set / "rows" / "split=unlabeled").glob("*.parquet")
    rows = pq.read_table(file, partitioning=None)
    pq.write_table(rows.take(list(range(11, -1, -1))), file, row_group_size=5, write_page_checksum=True)
    labels, confidences = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2], [0.75, 0.5] * 6
    table = write_pseudo_labels(tmp_path / "pseudo.parquet", unlabeled_ids(), labels, confidences)
    found = []
    for limit in (4.0, 0.0):
        options = tiny_options(
            TrainSemiOptions, imb_factor_unlabel=1.0, confidence_threshold=0.6, max_resident_gib=limit
        )
        task = semi_supervised_task(options, tiny_set, read_manifest(tiny_set), CPU, pseudo_labels=table)
        assert isinstance(task.data.train.images, StreamedImages) == (limit == 0)
        batches = steps_of(task, ALONE, batch_size=10, shuffle_buffer=7)
        places = torch.cat([batch.indices for batch in batches])
        if limit:
            images = task.data.train.images.permute(0, 2, 3, 1).numpy()[places]
        else:
            images = np.concatenate(
                list(read_images(task.data.train.images, [batch.indices.numpy() for batch in batches]))
            )
        found.append(
            {
                image_id: (label, image.tobytes())
                for image_id, label, image in zip(
                    task.data.train.ids[places].tolist(), task.data.train.labels[places].tolist(), images, strict=True
                )
            }
        )
    assert found[0] == found[1] and len(found[0]) == 40 + 6
    assert [found[1][unlabeled_ids()[i]][0] for i in (0, 2, 4, 6, 8, 10)] == [0, 0, 0, 1, 2, 2]


def test_a_ratio_of_pseudo_labels_needs_the_images_in_memory(tiny_set: Path, tmp_path: Path) -> None:
    table = write_pseudo_labels(tmp_path / "pseudo.parquet", unlabeled_ids(), [0] * 12, [1.0] * 12)
    options = tiny_options(TrainSemiOptions, imb_factor_unlabel=1.0, unlabeled_ratio=1.0, **STREAMED)
    with refused() as messages:
        semi_supervised_task(options, tiny_set, read_manifest(tiny_set), CPU, pseudo_labels=table)
    assert messages[0].startswith("--unlabeled_ratio draws each batch from the whole set")


@pytest.mark.parametrize("options_type", [PretrainRotOptions, PretrainMocoOptions])
def test_pre_training_runs_from_files(tiny_set: Path, tmp_path: Path, options_type: type) -> None:
    options = tiny_options(options_type, **STREAMED)
    result = run_training(options, paths_of(tiny_set, tmp_path / "run"), ALONE, attempt=1)
    assert sum(result["splits"][TRAIN]["totals"]["support"]) == 40


def test_a_nearest_class_mean_is_found_from_files(tiny_set: Path, tmp_path: Path) -> None:
    run_training(tiny_options(TrainOptions), paths_of(tiny_set, tmp_path / "base"), ALONE, attempt=1)
    weights = []
    for limit in (4.0, 0.0):
        options = tiny_options(
            TrainClassifierOptions, resume=tmp_path / "base" / "ckpt.pth.tar", method="NCM", max_resident_gib=limit
        )
        run_training(options, paths_of(tiny_set, tmp_path / f"ncm{limit}"), ALONE, attempt=1)
        weights.append(weights_in(tmp_path / f"ncm{limit}" / "ckpt.pth.tar")["fc.weight"])
    assert torch.allclose(*weights, atol=1e-4)


def test_balanced_draws_come_from_files_too(tiny_set: Path, tmp_path: Path) -> None:
    """40 draws of three classes alike: about 13 of each; as the classes are, there would be 24, 12 and 4."""
    options = tiny_options(TrainOptions, train_rule="ClassBalanced", **STREAMED)
    result = run_training(options, paths_of(tiny_set, tmp_path / "run"), ALONE, attempt=1)
    support = result["splits"][TRAIN]["totals"]["support"]
    assert sum(support) == 40 and min(support) >= 7 and max(support) <= 20


def test_a_remote_set_is_trained_on_by_its_url(
    tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fsspec.filesystem("memory").put(str(tiny_set), "/far/tiny", recursive=True)
    shutil.rmtree(tiny_set)
    arguments = ["--epochs", "1", "--runs_dir", str(tmp_path / "runs"), "--max_resident_gib", "0", "--threads", "1"]
    main(["train", "--set_dir", "memory://far/tiny", *arguments])
    (run_dir,) = (tmp_path / "runs").glob("digits-resnet20-train-*")
    assert f"run: {run_dir}" in capsys.readouterr().out
    result = json.loads((run_dir / "result.json").read_text())
    assert result["splits"][TRAIN]["totals"]["support"] == COUNTS[TRAIN]


def test_the_parts_of_the_ranks_fill_each_batch(tiny_set: Path) -> None:
    task = supervised_task(tiny_options(TrainOptions, **STREAMED), tiny_set, read_manifest(tiny_set), CPU)
    of_rank = [steps_of(task, Rank(rank, 3, CPU), batch_size=14, shuffle_buffer=9) for rank in range(3)]
    for step in range(3):
        together = [batch.indices[batch.part].tolist() for batch in (of_rank[rank][step] for rank in range(3))]
        assert sum(together, []) == of_rank[0][step].indices.tolist() == of_rank[2][step].indices.tolist()
        assert all(4 <= len(part) <= 5 for part in together)
    seen = [place for batch in of_rank[0] for place in batch.indices.tolist()]
    assert sorted(seen) == list(range(40)) and UNLABELED not in task.data.held_out
