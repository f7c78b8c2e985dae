"""`advise`: the meaning of --labelled and --resume, and the job on images whose true classes are known."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.data import DataOptions
from longtail.spark_jobs.advising.options import advise_options
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, save_checkpoint
from tests.conftest import RunJob
from tests.image_tree import write_class
from tests.prepared_set import change_manifest, write_manifest
from tests.refusals import refused


def refusal(given: dict[str, Any]) -> str:
    with refused() as messages:
        advise_options(given)
    return messages[0]


def options_of(given: dict[str, Any]) -> AdviseOptions:
    return advise_options(given).options


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_class(tmp_path / "labelled" / "cat", 3)
    return tmp_path / "labelled"


def test_a_directory_with_a_folder_a_class_is_the_data_set_folder(images: Path) -> None:
    options = options_of({"labelled": images, "unlabeled": "some"})
    assert (options.dataset, options.path, options.imb_type, options.val_fraction) == ("folder", images, "natural", 0.2)


def test_a_file_or_a_directory_of_parquet_is_the_data_set_table(tmp_path: Path) -> None:
    (tmp_path / "table" / "label=cat").mkdir(parents=True)
    file = tmp_path / "table" / "label=cat" / "part.parquet"
    pq.write_table(pa.table({"image": [b"x"]}), file)
    for path in (file, tmp_path / "table"):
        options = options_of({"labelled": path, "unlabeled": "some"})
        assert (options.dataset, options.path) == ("table", path)


def a_prepared_set(tmp_path: Path, **values: Any) -> Path:
    """The directory that `prepare` would make, with its manifest alone."""
    options = DataOptions(dataset="digits", n_max=33, data_dir=tmp_path / "here", **values)
    parameters, set_dir = options.set_parameters(), prepared_set_dir(options)
    set_dir.mkdir(parents=True)
    write_manifest(set_dir, {"train": [3, 2]}, image_shape=(8, 8, 1))
    change_manifest(set_dir, lambda values: values.update(parameters=parameters))
    return set_dir


def test_a_prepared_set_is_named_by_its_parameters_with_its_unlabeled_part(tmp_path: Path) -> None:
    set_dir = a_prepared_set(tmp_path, val_fraction=0.3, imb_factor_unlabel=0.5)
    options = options_of({"labelled": set_dir})
    assert (options.n_max, options.val_fraction, options.imb_factor_unlabel) == (33, 0.3, 0.5)
    assert options.data_dir == tmp_path / "here"


def test_a_prepared_set_without_held_out_images_gets_some_and_other_unlabeled_ones_where_they_are_named(
    tmp_path: Path,
) -> None:
    set_dir = a_prepared_set(tmp_path, imb_factor_unlabel=0.5, unlabel_size_factor=3)
    assert "its manifest does not decide that images of digits are read" in refusal(
        {"labelled": set_dir, "unlabeled": "some"}
    )
    data_dir = tmp_path / "here"
    with_held_out = DataOptions(dataset="digits", n_max=33, val_fraction=0.2, unlabeled="some", data_dir=data_dir)
    prepared_set_dir(with_held_out).mkdir()
    options = options_of({"labelled": set_dir, "unlabeled": "some"})
    assert (options.val_fraction, options.imb_factor_unlabel, options.unlabeled) == (0.2, None, "some")


def test_a_manifest_does_not_choose_which_images_another_set_is_prepared_from(tmp_path: Path, images: Path) -> None:
    write_class(images / "dog", 3)
    set_dir = a_prepared_set(tmp_path)
    of_images = DataOptions(dataset="folder", path=images, imb_type="natural")
    change_manifest(set_dir, lambda values: values.update(parameters=of_images.set_parameters()))
    message = refusal({"labelled": set_dir, "unlabeled": "some"})
    assert f"its manifest does not decide that images of {images} are read: run `longtail prepare --dataset" in message


@pytest.mark.parametrize("other", ["dataset", "path"])
def test_the_labelled_images_are_named_once(images: Path, other: str) -> None:
    message = refusal({"labelled": images, other: "digits", "unlabeled": "some"})
    assert message == f"--labelled {images} and --{other} both name the labelled images: omit one of them"


def write_checkpoint(path: Path, **values: Any) -> Path:
    """A checkpoint as a training with these options leaves it, with no weights."""
    options = {**DataOptions(dataset="digits").model_dump(mode="json"), **values}
    metadata = CheckpointMetadata(
        run="base", phase="train", class_names=["a", "b"], class_counts=[3, 2], rule_counts=[3, 2],
        image_shape=(8, 8, 1), arch="resnet20", head="linear", logit_scale=1.0, options=options,
        normalisation=Normalisation((0.0,), (1.0,)), pseudo_label_round=0,
    )  # fmt: skip
    nothing = Checkpoint(epoch=1, arch="resnet20", state_dict={}, optimizer=None, best=None, metadata=metadata)
    save_checkpoint(path, nothing)
    return path


def test_a_checkpoint_names_its_labelled_images_and_not_the_unlabeled_ones(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", n_max=33, val_fraction=0.3, imb_factor_unlabel=0.5)
    options = options_of({"resume": checkpoint, "dataset": "digits", "unlabeled": "some"})
    assert (options.n_max, options.val_fraction, options.imb_factor_unlabel) == (33, 0.3, None)
    assert options_of({"resume": checkpoint, "dataset": "digits"}).imb_factor_unlabel == 0.5


def test_without_a_data_set_the_prepared_set_of_the_checkpoint_is_taken_and_no_other(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", n_max=33, val_fraction=0.3, imb_factor_unlabel=0.5)
    given = {"resume": checkpoint, "data_dir": tmp_path}
    assert "a checkpoint does not decide what is prepared" in refusal(given)
    set_dir = tmp_path / "prepared" / options_of({**given, "dataset": "digits"}).set_name()
    set_dir.mkdir(parents=True)
    write_manifest(set_dir, {"train": [3, 2]}, image_shape=(8, 8, 1))
    assert advise_options(given).set_dir == set_dir
    assert "a checkpoint does not decide what is prepared" in refusal({**given, "unlabeled": "some"})


def test_a_checkpoint_that_learned_from_all_labels_or_from_others_is_refused(tmp_path: Path) -> None:
    of_all = write_checkpoint(tmp_path / "all.tar", val_fraction=0.0)
    assert "with --resume a checkpoint that was trained with it" in refusal({"resume": of_all, "unlabeled": "some"})
    checkpoint = write_checkpoint(tmp_path / "c.tar", n_max=33, val_fraction=0.3)
    message = refusal({"resume": checkpoint, "dataset": "digits", "n_max": 34, "unlabeled": "some"})
    assert f"{checkpoint} was trained on other labelled images: n_max 33 (here 34); omit --resume" == message


def test_the_column_of_an_unlabeled_table_s_images_says_nothing_of_the_labelled_ones(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.tar", n_max=33, val_fraction=0.3)
    table = tmp_path / "more.parquet"
    pq.write_table(pa.table({"picture": [b"x"]}), table)
    options = options_of(
        {"resume": checkpoint, "dataset": "digits", "unlabeled": str(table), "image_column": "picture"}
    )
    assert options.set_parameters()["image_column"] == "picture"


SIDE = 8
NUM_LABELLED = (60, 30, 12, 6)
NUM_UNLABELED = (40, 40, 40, 40)
NUM_OTHERS = 160


def write_images(directory: Path, kind: int, number: int, *, seed: int) -> None:
    """Noise with one bright quarter: a class; with a bright cross through all of it: something else."""
    rng = np.random.default_rng((seed, kind))
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        pixels = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        half = SIDE // 2
        if kind < len(NUM_LABELLED):
            row, column = kind // 2 * half, kind % 2 * half
            pixels[row : row + half, column : column + half] += 130
        else:
            pixels[half - 1 : half + 1] += 130
            pixels[:, half - 1 : half + 1] |= 128
        Image.fromarray(pixels).save(directory / f"{kind}-{index}.png")


@pytest.mark.long
def test_advice_on_images_of_ones_own_is_right_where_the_truth_is_known(job: RunJob, tmp_path: Path) -> None:
    for kind, number in enumerate(NUM_LABELLED):
        write_images(tmp_path / "labelled" / f"kind {kind}", kind, number, seed=0)
        write_images(tmp_path / "relevant", kind, NUM_UNLABELED[kind], seed=1)
        write_images(tmp_path / "mixed", kind, NUM_UNLABELED[kind], seed=1)
    write_images(tmp_path / "mixed", len(NUM_LABELLED), NUM_OTHERS, seed=1)
    arguments = ["--labelled", "labelled", "--image_size", SIDE, "-a", "resnet20", "--lr", 0.05, "--threads", 1]

    done = job("advise", *arguments, "--unlabeled", "relevant", "--epochs", 12, "-b", 16)

    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("runs/*/advice/*/advice.json")
    advice = json.loads(file.read_text())
    asked, suggested = advice["unlabeled_data"], advice["unlabeled_data"]["command"]
    assert all(text in done.stdout for text in (advice["theorem_1"], *asked["reasons"], f"next: {suggested}"))
    # A fifth of each class is the test set: of 60, 30, 12 and 6 labels 48, 24, 10 and 5 are left.
    assert advice["labelled"] == {"rho": 9.6, "tail_share": 15 / 87}
    assert [row["held_out"] for row in advice["classes"]] == [10, 5, 2, 1]
    assert advice["estimates"]["relevance"]["high"] > 0.9
    assert advice["estimates"]["tail_share"]["low"] < 0.5 < advice["estimates"]["tail_share"]["high"]
    assert pq.read_table(file.parent / "classes.parquet").to_pylist() == advice["classes"]
    # What it suggests runs as it is printed.
    for command in suggested.split(" && "):
        followed = job(*shlex.split(command)[1:])
        assert followed.returncode == 0, followed.stderr
    (semi,) = tmp_path.glob("runs/*train_semi*/result.json")
    assert json.loads(semi.read_text())["splits"]["test"]["balanced_accuracy"] > 0

    (checkpoint,) = tmp_path.glob("runs/*-train-*/ckpt.pth.tar")
    labelled = ["--labelled", "labelled", "--image_size", SIDE]
    mixed = job("advise", *labelled, "--resume", checkpoint, "--unlabeled", "mixed", "--output_dir", "other")

    assert mixed.returncode == 0, mixed.stderr
    assert len(list(tmp_path.glob("runs/*-train-*/result.json"))) == 1  # nothing was trained
    advice = json.loads((tmp_path / "other/advice.json").read_text())
    assert advice["estimates"]["relevance"]["low"] < 0.5 < advice["estimates"]["relevance"]["high"]
    assert advice["unlabeled_data"]["verdict"] != "gain"
