"""The sizes of the parts of a set of the user's own images: the tail goes by size, and refusals can be followed."""

import re
from pathlib import Path

import pytest

from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.sources.base import Located
from longtail.spark_jobs.frames.long_tail import LongTail
from longtail.spark_jobs.steps.part_sizes import plan_counts
from tests.refusals import refused
from tests.sources import in_directory

NAMES = ["1", "10", "2", "ox"]
SIZES = [40, 3, 90, 12]


def plan(tmp_path: Path, sizes: list[int] = SIZES, *, val: list[int] | None = None, **values: object) -> LongTail:
    options = in_directory(tmp_path, dataset="folder", path=tmp_path, **values)
    found = {(split, label): 2 for split in (TEST,) for label in range(4)}
    found |= {(TRAIN, label): size for label, size in enumerate(sizes)}
    found |= {(VAL, label): size for label, size in enumerate(val or [])}
    located = Located(shards=[], origin="", class_names=NAMES, image_shape=(8, 8, 3))
    return plan_counts(found, options, located)


def test_a_made_tail_is_cut_from_the_small_classes_whatever_their_names(tmp_path: Path) -> None:
    """40 * 0.1^(i / 3) is 40, 18.6, 8.6, 4; class 2 is the largest, then 1, ox and 10."""
    sizes = [40, 5, 90, 12]
    assert plan(tmp_path, sizes, imb_type="exp", n_max=40, imb_factor=0.1).train == [18, 4, 40, 8]
    assert plan(tmp_path, sizes, imb_type="step", n_max=40, imb_factor=0.1).train == [40, 4, 40, 4]


def test_all_images_and_counts_keep_the_order_of_the_classes(tmp_path: Path) -> None:
    assert plan(tmp_path).train == SIZES
    assert plan(tmp_path, counts="7,3,9,5").train == [7, 3, 9, 5]


def test_the_unlabeled_tail_follows_the_sizes_of_the_labelled_classes(tmp_path: Path) -> None:
    """22 labelled images, K = 1: 22 // 4 = 5 times 0.5^(i / 3), 5, 3, 3, 2, each times 22 / 13 and rounded down."""
    values = {"counts": "7,1,9,5", "imb_factor_unlabel": 0.5, "unlabel_size_factor": 1.0}
    assert plan(tmp_path, [40, 30, 90, 12], **values).unlabeled == [5, 3, 8, 5]


def test_validation_images_of_the_user_s_own_replace_a_share(tmp_path: Path) -> None:
    planned = plan(tmp_path, val=[1, 0, 2, 3], val_fraction=0.5)
    assert (planned.val, planned.train, planned.has_own_val) == ([1, 0, 2, 3], SIZES, True)
    planned = plan(tmp_path, val_fraction=0.5)
    assert (planned.val, planned.train, planned.has_own_val) == ([20, 2, 45, 6], [20, 1, 45, 6], False)


def refusal(tmp_path: Path, sizes: list[int] = SIZES, **values: object) -> str:
    with refused() as messages:
        plan(tmp_path, sizes, **values)
    return messages[0]


@pytest.mark.parametrize("imb_type", ["exp", "step", "pareto"])
def test_the_n_max_that_a_refusal_offers_is_accepted(tmp_path: Path, imb_type: str) -> None:
    values = {"imb_type": imb_type, "imb_factor": 0.05}
    message = refusal(tmp_path, **values)
    assert "5000 labelled ones are required: lower --n_max to " in message
    offered = int(re.findall(r"--n_max to ([0-9]+)", message)[0])
    assert sum(plan(tmp_path, n_max=offered, **values).train) > 0
    assert "are required" in refusal(tmp_path, n_max=offered + 1, **values)


def test_refusals_name_the_class_and_the_mend(tmp_path: Path) -> None:
    assert "folder has 90 training images of class 2, 5000 labelled" in refusal(tmp_path, imb_type="exp")
    assert "no --n_max fits, raise --imb_factor 0.01 (the" in refusal(tmp_path, imb_type="exp", imb_factor=0.01)
    message = refusal(tmp_path, imb_type="exp", n_max=10, imb_factor=0.05)
    assert message == "--imb_factor 0.05 with --n_max 10 leaves class 10 without images: --n_max must be at least 20"
    assert "of class ox, 13 labelled ones are required: lower --counts" in refusal(tmp_path, counts="1,1,1,13")
    assert "--counts leaves class ox without an image" in refusal(tmp_path, counts="1,1,1,0")
    assert "no training image of the class '10': remove the class or fill it" in refusal(tmp_path, [4, 0, 4, 4])


def test_where_all_images_are_labelled_the_mend_of_an_unlabeled_part_is_another_profile(tmp_path: Path) -> None:
    message = refusal(tmp_path, imb_factor_unlabel=1.0)
    assert "leave images over with --counts or another --imb_type, as natural labels them all" in message
    assert "--n_max" not in message
