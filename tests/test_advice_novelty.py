"""Novelty scores of images unlike all held-out ones (spark_jobs/advising/novelty.py)."""

import numpy as np

from longtail.spark_jobs.advising.novelty import novelty_scores


def images(*groups: tuple[int, float, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of groups: (predicted class, means of the two features, number)."""
    rng = np.random.default_rng(sum(group[3] for group in groups))
    features = [rng.normal((x, y), 1, (number, 2)) for _, x, y, number in groups]
    return np.concatenate(features), np.repeat([group[0] for group in groups], [group[3] for group in groups])


def scores(
    held_out: tuple[np.ndarray, np.ndarray], unlabeled: tuple[np.ndarray, np.ndarray], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    return novelty_scores((held_out[0], unlabeled[0]), (held_out[1], unlabeled[1]), num_classes=2, seed=seed)


HELD_OUT = images((0, 0, 0, 150), (1, 9, 0, 50))


def test_images_of_something_else_are_novel_whatever_their_predicted_class() -> None:
    _, found = scores(HELD_OUT, images((0, 0, 0, 100), (1, 9, 0, 100), (0, 0, 9, 150)))
    limit = np.quantile(found[:200], 0.95)
    assert (found[200:] > limit).mean() > 0.95


def test_different_class_shares_are_no_novelty() -> None:
    # Three in four held-out images are of class 0, of the unlabeled ones one in four.
    held_out, unlabeled = scores(HELD_OUT, images((0, 0, 0, 100), (1, 9, 0, 300)))
    means = [(held_out[:150].mean(), unlabeled[:100].mean()), (held_out[150:].mean(), unlabeled[100:].mean())]
    for of_held_out, of_unlabeled in means:
        assert abs(of_held_out - of_unlabeled) < 0.06
    assert abs(unlabeled[:100].mean() - unlabeled[100:].mean()) < 0.06


def test_with_one_held_out_image_all_scores_are_zero() -> None:
    held_out, unlabeled = scores((np.zeros((1, 2)), np.array([0])), images((0, 0, 0, 20)))
    assert held_out.tolist() == [0] and unlabeled.tolist() == [0] * 20


def test_the_same_seed_gives_the_same_scores() -> None:
    unlabeled = images((0, 0, 0, 30), (1, 9, 0, 30))
    one, two, other = (scores(HELD_OUT, unlabeled, seed=seed)[1] for seed in (3, 3, 4))
    assert (one == two).all() and (one != other).any()
