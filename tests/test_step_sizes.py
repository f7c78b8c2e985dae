"""Steps that cannot be learned from are refused by numbers alone, before a rank starts."""

from pathlib import Path
from typing import Any

import pytest

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.manifest import read_manifest
from longtail.training.step_sizes import check_steps_of_run
from tests.refusals import refused
from tests.tiny_set import tiny_options, write_tiny_set

SEMI = {"imb_factor_unlabel": 1.0}


def refusal(set_dir: Path, options_type: type[TrainOptions], **changes: Any) -> str:
    with refused() as messages:
        check_steps_of_run(tiny_options(options_type, **changes), read_manifest(set_dir))
    return messages[0]


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 labelled and 12 unlabeled images."""
    return write_tiny_set(tmp_path_factory.mktemp("sets") / "set")


@pytest.mark.parametrize(
    ("changes", "smallest"),
    [
        ({"batch_size": 16, "world_size": 6}, 2),  # 13, 13 and 14 images over 6 ranks
        ({"batch_size": 2}, 2),
        ({"batch_size": 1000, "world_size": 20}, 2),
    ],
)
def test_two_images_per_rank_and_step_suffice(set_dir: Path, changes: dict[str, int], smallest: int) -> None:
    check_steps_of_run(tiny_options(TrainOptions, **changes), read_manifest(set_dir))
    more = {**changes, "world_size": changes.get("world_size", 1) * smallest}
    assert "batch norm needs two images per rank" in refusal(set_dir, TrainOptions, **more)


def test_the_last_steps_of_an_epoch_count_as_the_others(set_dir: Path) -> None:
    # 40 images in 14 steps of at most 3: some have 2, over two ranks one each.
    assert "40 images in 14 batches over 2 rank(s) leave one: raise --batch_size or lower --world_size" in refusal(
        set_dir, TrainOptions, batch_size=3, world_size=2
    )


def test_more_ranks_than_images_are_too_many(set_dir: Path) -> None:
    assert "40 images in 1 batches are too few for --world_size 41" in refusal(
        set_dir, TrainOptions, batch_size=1000, world_size=41
    )


def test_unlabeled_images_count_where_they_share_the_step(set_dir: Path) -> None:
    # 52 images in 2 steps, 26 ranks: one each. With a ratio, 40 labelled and 40 unlabeled ones in 2 steps: 40.
    assert "52 images in 2 batches over 26 rank(s)" in refusal(
        set_dir, TrainSemiOptions, batch_size=26, world_size=26, **SEMI
    )
    with_ratio = tiny_options(TrainSemiOptions, batch_size=26, world_size=20, unlabeled_ratio=1.0, **SEMI)
    check_steps_of_run(with_ratio, read_manifest(set_dir))


def test_an_unlabeled_ratio_that_rounds_to_no_image_is_refused(set_dir: Path) -> None:
    assert "--unlabeled_ratio 0.01 of 40 labelled images is no image" in refusal(
        set_dir, TrainSemiOptions, unlabeled_ratio=0.01, **SEMI
    )


def test_where_no_batch_statistics_are_learned_one_image_suffices(set_dir: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "ckpt"
    checkpoint.touch()
    for options in (
        tiny_options(TrainClassifierOptions, batch_size=1, resume=checkpoint),
        tiny_options(TrainOptions, batch_size=1, arch="mine:network"),
    ):
        check_steps_of_run(options, read_manifest(set_dir))
