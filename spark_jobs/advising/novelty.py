"""How strange an image is: how surely a forest takes it for an unlabeled rather than for a held-out one.

An unlabeled image of a class looks like a held-out one of it; an image of something
else has features that no held-out image has. Energies alone don't see it: a shoe
that is taken for a sandal is taken so as surely as a sandal (docs/advice.md has the
figures). The forest has not seen the images that it judges (as in the PU learning
of Garg et al. 2021), so held-out images stand for unlabeled ones of their class.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier

NUM_FOLDS = 4
NUM_TREES = 60
SMALLEST_LEAF = 15
MOST_IMAGES_OF_A_TREE = 10_000


def strangeness(
    features: tuple[np.ndarray, np.ndarray], predicted: tuple[np.ndarray, np.ndarray], *, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of the held-out images and (M,) of the unlabeled ones, within [0, 1].

    features: (N, D) and (M, D) by the base classifier; predicted: (N,) and (M,) what it takes them for: the held-out
    images of a class have as much weight as the unlabeled ones, so that other class shares are nothing strange
    """
    rng = np.random.default_rng(seed)
    held_out, unlabeled = (np.bincount(classes, minlength=num_classes) + 1 for classes in predicted)
    weights = np.concatenate([(unlabeled / held_out)[predicted[0]], np.ones(len(predicted[1]))])
    of_all, is_unlabeled = np.concatenate(features), np.repeat([0, 1], [len(classes) for classes in predicted])
    num_folds = min(NUM_FOLDS, *map(len, predicted))
    found = np.zeros(len(of_all))
    if num_folds < 2:
        return found[: len(predicted[0])], found[len(predicted[0]) :]
    # Of either part each fold has its share.
    folds = np.concatenate([rng.permutation(len(classes)) % num_folds for classes in predicted])
    for fold in range(num_folds):
        learned = np.flatnonzero(folds != fold)
        forest = RandomForestClassifier(
            NUM_TREES, min_samples_leaf=SMALLEST_LEAF, max_samples=min(MOST_IMAGES_OF_A_TREE, len(learned)),
            random_state=seed,
        )  # fmt: skip
        forest.fit(of_all[learned], is_unlabeled[learned], sample_weight=weights[learned])
        found[folds == fold] = forest.predict_proba(of_all[folds == fold])[:, 1]
    return found[: len(predicted[0])], found[len(predicted[0]) :]
