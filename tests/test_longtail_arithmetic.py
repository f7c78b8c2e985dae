"""Long-tail arithmetic: set sizes of the published recipe, what a pool can give, shot groups, and class statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest

from longtail.conf.base.errors import UserError
from longtail.data.longtail import (
    by_label,
    check_pool,
    irrelevant_count,
    labelled_counts,
    largest_n_max,
    largest_unlabel_size_factor,
    shot_groups,
    unlabeled_counts,
    validation_counts,
)
from longtail.data.statistics import class_distribution, effective_number


@pytest.mark.parametrize(
    ("n_max", "rho", "total"),
    [(5000, 100, 12406), (5000, 50, 13996), (5000, 10, 20431), (1000, 100, 2478), (1000, 50, 2795), (1000, 10, 4084)],
)
def test_labelled_sizes_are_the_published_ones(n_max: int, rho: int, total: int) -> None:
    counts = labelled_counts(10, imb_type="exp", imb_factor=1 / rho, n_max=n_max)
    assert sum(counts) == total
    assert counts[0] == n_max and counts[-1] == n_max // rho


def test_every_class_of_cifar_10_lt_has_its_published_size() -> None:
    assert labelled_counts(10, imb_type="exp", imb_factor=0.01, n_max=5000) == [
        5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50,
    ]  # fmt: skip


def test_a_step_has_the_head_size_in_the_first_half_and_the_tail_size_in_the_second() -> None:
    assert labelled_counts(6, imb_type="step", imb_factor=0.25, n_max=30) == [30, 30, 30, 7, 7, 7]
    assert labelled_counts(5, imb_type="step", imb_factor=0.1, n_max=30) == [30, 30, 3, 3, 3]


@pytest.mark.parametrize("imb_type", ["exp", "step"])
def test_without_imbalance_all_classes_are_of_one_size(imb_type: str) -> None:
    assert labelled_counts(4, imb_type=imb_type, imb_factor=1, n_max=9) == [9, 9, 9, 9]


@pytest.mark.parametrize("imb_type", ["exp", "step"])
@pytest.mark.parametrize(("imb_factor", "least_n_max"), [(0.01, 100), (0.05, 20), (0.3, 4), (0.15, 7), (1 / 50, 50)])
def test_a_class_without_images_is_refused_with_the_n_max_that_mends_it(
    imb_type: str, imb_factor: float, least_n_max: int
) -> None:
    with pytest.raises(UserError, match=f"--n_max must be at least {least_n_max}$"):
        labelled_counts(10, imb_type=imb_type, imb_factor=imb_factor, n_max=least_n_max - 1)
    assert min(labelled_counts(10, imb_type=imb_type, imb_factor=imb_factor, n_max=least_n_max)) == 1


def test_a_tail_for_which_no_head_is_large_enough_needs_another_factor() -> None:
    with pytest.raises(UserError, match="leaves class 1 without images: --imb_factor must be larger$"):
        labelled_counts(2, imb_type="exp", imb_factor=1e-320, n_max=40)


def test_unlabeled_sizes_follow_the_formula() -> None:
    # T = 2 * 17 = 34, base = 34 // 3 = 11; profile int(11), int(11 * 1/2), int(11 * 1/4) = 11, 5, 2, in all 18;
    # int(11 * 34 / 18), int(5 * 34 / 18), int(2 * 34 / 18) = int(20.8), int(9.4), int(3.8)
    assert unlabeled_counts([10, 5, 2], imb_factor_unlabel=0.25, unlabel_size_factor=2) == [20, 9, 3]


def test_a_balanced_unlabeled_part_is_five_times_the_published_labelled_one() -> None:
    labelled = labelled_counts(10, imb_type="exp", imb_factor=0.01, n_max=5000)
    assert unlabeled_counts(labelled, imb_factor_unlabel=1, unlabel_size_factor=5) == [6203] * 10  # 62,030 in all


@pytest.mark.parametrize(("rho", "total"), [(100, 62030), (50, 69980), (10, 102150)])
def test_unlabeled_sizes_miss_the_published_total_by_rounding_only(rho: int, total: int) -> None:
    labelled = labelled_counts(10, imb_type="exp", imb_factor=1 / rho, n_max=5000)
    counts = unlabeled_counts(labelled, imb_factor_unlabel=1 / rho, unlabel_size_factor=5)
    # Cutting off decimals loses less than one image a class; the published total of rho = 10 is itself rounded down.
    assert total - 10 < sum(counts) <= total + 5
    assert counts[0] / counts[-1] == pytest.approx(rho, rel=0.02)


def test_an_unlabeled_part_without_images_is_refused() -> None:
    with pytest.raises(UserError, match="--unlabel_size_factor 0.1 of 3 labelled images leaves no unlabeled image"):
        unlabeled_counts([2, 1], imb_factor_unlabel=1, unlabel_size_factor=0.1)


def test_validation_takes_its_share_of_every_class_and_one_image_at_the_least() -> None:
    assert validation_counts([100, 40, 4, 2], val_fraction=0.1) == [10, 4, 1, 1]


def test_a_class_keeps_its_only_image_for_training() -> None:
    assert validation_counts([10, 1], val_fraction=0.5) == [5, 0]
    assert validation_counts([2, 3], val_fraction=0.99) == [1, 2]


def test_without_a_validation_fraction_nothing_is_held_out() -> None:
    assert validation_counts([100, 2, 1], val_fraction=0) == [0, 0, 0]


def test_shot_groups_change_above_100_and_below_20_images() -> None:
    assert shot_groups([101, 100, 20, 19]) == ["many", "medium", "medium", "few"]


def test_shot_groups_take_other_borders() -> None:
    assert shot_groups([21, 20, 5, 4], many_shot=20, few_shot=5) == ["many", "medium", "medium", "few"]


def test_a_pool_with_just_enough_images_is_accepted() -> None:
    check_pool([10, 10], [4, 2], [6, 8], dataset="digits", imb_factor_unlabel=1.0, unlabel_size_factor=2.0)


def test_too_many_labelled_images_are_refused_with_what_the_class_has() -> None:
    with pytest.raises(UserError) as refused:
        check_pool([10, 8, 9], [10, 9, 9], [0, 0, 0], dataset="digits")
    assert str(refused.value) == (
        "digits has 8 training images of class 1, 9 labelled ones are required: "
        "lower --n_max (the smallest class has 8)"
    )


def test_too_many_unlabeled_images_are_refused_with_the_factor_that_the_pool_can_give() -> None:
    # Ten images a class, of which 4 and 2 are labelled: 6 are left of the first. K = 2.3 asks for int(13.8) = 13, which
    # is 6 of each class; K = 2.4 asks for int(14.4) = 14, which is 7.
    with pytest.raises(UserError) as refused:
        check_pool([10, 10], [4, 2], [9, 9], dataset="digits", imb_factor_unlabel=1.0, unlabel_size_factor=3.0)
    message = str(refused.value)
    assert message.splitlines() == [message]
    assert "digits leaves 6 unlabeled images of class 0 beside 4 labelled ones" in message
    assert "--unlabel_size_factor 3 at --imb_factor_unlabel 1 needs 9" in message
    assert message.endswith("give --unlabel_size_factor 2.3, or lower --n_max")


def wanted_by_fractions(labelled: list[int], f_unlabel: float, tenths: int) -> list[int]:
    """The unlabeled sizes of a factor of so many tenths, in exact arithmetic but for the powers."""
    total = int(Fraction(tenths, 10) * sum(labelled))
    profile = [int(total // len(labelled) * math.pow(f_unlabel, i / (len(labelled) - 1))) for i in range(len(labelled))]
    return [m * total // sum(profile) if sum(profile) else 0 for m in profile]


@pytest.mark.parametrize(
    ("available", "labelled", "f_unlabel"),
    [
        # The digits and CIFAR-10 at the defaults of a pipeline, a pool that is not balanced, one with nothing to spare.
        ([128, 132, 127, 133, 131, 132, 131, 129, 124, 130], (0.05, 40), 1.0),
        ([5000] * 10, (0.01, 800), 0.01),
        ([5000] * 10, (0.02, 700), 0.5),
        ([900, 300, 500, 70], (0.1, 50), 0.3),
        ([60, 60, 60], (1.0, 50), 1.0),
        ([50, 50, 50], (1.0, 50), 1.0),
    ],
)
def test_the_largest_factor_fits_and_no_larger_tenth_does(
    available: list[int], labelled: tuple[float, int], f_unlabel: float
) -> None:
    imb_factor, n_max = labelled
    counts = labelled_counts(len(available), imb_type="exp", imb_factor=imb_factor, n_max=n_max)
    left = [have - taken for have, taken in zip(available, counts, strict=True)]

    def fits(tenths: int) -> bool:
        return all(
            want <= have for want, have in zip(wanted_by_fractions(counts, f_unlabel, tenths), left, strict=True)
        )

    tenths = round(10 * largest_unlabel_size_factor(counts, left, imb_factor_unlabel=f_unlabel))
    assert fits(tenths)
    assert not fits(tenths + 1)
    all_of_the_pool = math.ceil(10 * sum(available) / sum(counts))
    assert not any(fits(more) for more in range(tenths + 1, all_of_the_pool + 2))


def test_the_factor_that_a_refusal_offers_is_accepted() -> None:
    available, labelled = [5000] * 10, labelled_counts(10, imb_type="exp", imb_factor=0.01, n_max=800)

    def check(factor: float) -> None:
        unlabeled = unlabeled_counts(labelled, imb_factor_unlabel=0.01, unlabel_size_factor=factor)
        check_pool(
            available, labelled, unlabeled, dataset="cifar10", imb_factor_unlabel=0.01, unlabel_size_factor=factor
        )

    with pytest.raises(UserError) as refused:
        check(20.0)
    offered = float(str(refused.value).split(": give --unlabel_size_factor ")[1].split(",")[0])
    check(offered)
    with pytest.raises(UserError):
        check(offered + 0.1)


def test_a_pool_with_nothing_to_spare_gives_no_unlabeled_image() -> None:
    assert largest_unlabel_size_factor([9, 9], [0, 0], imb_factor_unlabel=1.0) == 0


def test_statistics_of_two_classes_by_hand() -> None:
    distribution = class_distribution([1, 3])
    assert distribution.num_images == 4
    assert distribution.rho == 3
    # Differences of the four pairs 0, 2, 2, 0: mean 1, over twice the mean class size 2.
    assert distribution.gini == pytest.approx(1 / 4)
    # -(1/4 log2 1/4 + 3/4 log2 3/4) = 1/2 + 3/4 (2 - log2 3), and log2 2 = 1.
    assert distribution.normalised_entropy == pytest.approx(0.5 + 0.75 * (2 - math.log2(3)))


def test_a_balanced_split_has_entropy_one_and_gini_zero() -> None:
    distribution = class_distribution([7] * 5)
    assert (distribution.rho, distribution.gini) == (1, 0)
    assert distribution.normalised_entropy == pytest.approx(1)


def test_a_split_of_one_class_has_entropy_zero_and_no_ratio() -> None:
    distribution = class_distribution([0, 0, 9])
    assert distribution.rho is None
    assert distribution.normalised_entropy == 0
    assert distribution.gini == pytest.approx(2 / 3)


def test_a_split_without_images_has_no_statistics() -> None:
    empty = class_distribution([0, 0])
    assert (empty.num_images, empty.rho, empty.normalised_entropy, empty.gini) == (0, None, None, None)


def test_gini_and_entropy_agree_with_their_definitions_whatever_the_order_of_classes() -> None:
    counts = np.array([139, 5000, 50, 645, 1, 232, 2997])
    shares = counts / counts.sum()
    all_pairs = np.abs(counts[:, None] - counts[None, :])
    distribution = class_distribution(counts.tolist())
    assert distribution.gini == pytest.approx(all_pairs.mean() / (2 * counts.mean()), rel=1e-12)
    assert distribution.normalised_entropy == pytest.approx(
        -(shares * np.log(shares)).sum() / np.log(len(counts)), rel=1e-12
    )


@pytest.mark.parametrize("count", [0, 1, 2, 50, 5000])
def test_the_effective_number_is_the_geometric_sum(count: int) -> None:
    assert effective_number(count) == pytest.approx(math.fsum(0.9999**k for k in range(count)), rel=1e-9)


def test_pareto_sizes_are_a_power_law_of_the_rank() -> None:
    # 1000 (i + 1)^-p with p = ln(100) / ln(10) = 2: 1000, 250, 111.1, 62.5, 40, 27.8, 20.4, 15.6, 12.3, 10.
    counts = labelled_counts(10, imb_type="pareto", imb_factor=0.01, n_max=1000)
    assert counts == [1000, 250, 111, 62, 40, 27, 20, 15, 12, 10]


@pytest.mark.parametrize("num_classes", [2, 10, 100, 1000, 8142])
def test_the_tail_of_a_pareto_profile_has_no_rounding_error(num_classes: int) -> None:
    counts = labelled_counts(num_classes, imb_type="pareto", imb_factor=0.1, n_max=1280)
    assert (counts[0], counts[-1]) == (1280, 128)
    assert counts == sorted(counts, reverse=True)


def test_a_reversed_unlabeled_tail_is_the_mirror_image() -> None:
    # K = 1: T = 30, base 10; int(10 * 0.25^(i/2)) is 10, 5, 2 (17); times 30/17: 17, 8, 3.
    assert unlabeled_counts([20, 7, 3], imb_factor_unlabel=0.25, unlabel_size_factor=1.0) == [17, 8, 3]
    assert unlabeled_counts([20, 7, 3], imb_factor_unlabel=4.0, unlabel_size_factor=1.0) == [3, 8, 17]


def test_images_of_no_class_fill_the_share_that_relevance_leaves() -> None:
    assert irrelevant_count([30, 20, 10], relevance=0.6) == 40  # 60 of 100
    assert irrelevant_count([30, 20, 10], relevance=1.0) == 0
    assert irrelevant_count([1, 1], relevance=0.3) == 5  # 2 * 0.7 / 0.3 is 4.67


def test_counts_from_head_to_tail_are_put_in_the_order_of_the_labels() -> None:
    assert by_label([1, 2, 0], [30, 20, 10]) == [10, 30, 20]


@pytest.mark.parametrize("imb_type", ["exp", "step", "pareto"])
@pytest.mark.parametrize("available", [[90, 40, 33, 12], [50, 50, 50, 50], [10, 9, 8, 1], [3, 3, 3, 3], [1, 1, 1, 1]])
def test_the_largest_n_max_is_the_last_that_the_classes_can_give(imb_type: str, available: list[int]) -> None:
    """Found again by trying all."""

    def fits(n_max: int) -> bool:
        try:
            counts = labelled_counts(4, imb_type=imb_type, imb_factor=0.2, n_max=n_max)
        except UserError:
            return False
        return all(want <= have for want, have in zip(counts, available, strict=True))

    fitting = [n_max for n_max in range(1, 200) if fits(n_max)]
    assert largest_n_max(available, imb_type=imb_type, imb_factor=0.2) == (fitting[-1] if fitting else None)


def test_a_refusal_names_the_class_and_the_option_that_it_is_given() -> None:
    with pytest.raises(UserError) as refused:
        check_pool([10, 8], [10, 9], [0, 0], dataset="svhn", class_names=["b", "a"], labelled_remedy="lower --counts")
    assert "8 training images of class a, 9 labelled ones are required: lower --counts" in str(refused.value)


def test_an_unlabeled_part_from_elsewhere_is_measured_by_that_pool() -> None:
    def check(pool: list[int]) -> None:
        check_pool(
            [4, 2], [4, 2], [6, 6], dataset="svhn", imb_factor_unlabel=1.0, unlabel_size_factor=2.0,
            unlabeled_pool=pool,
        )  # fmt: skip

    check([6, 6])
    with pytest.raises(UserError, match=r"give --unlabel_size_factor 1\.9,"):
        check([6, 5])  # K = 1.9 asks for int(11.4) = 11, 5 of each class


def test_the_factor_offered_for_a_part_of_some_relevance_is_that_of_the_whole() -> None:
    # Half of K x 6 images are relevant: K = 4.6 asks for int(13.8) = 13, 6 of each class; 4.7 for 14, 7 of each.
    assert largest_unlabel_size_factor([4, 2], [6, 6], imb_factor_unlabel=1.0, relevance=0.5) == 4.6
