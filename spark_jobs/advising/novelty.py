"""Novelty scores: how likely an image is to be an unlabeled rather than a held-out one, by a random forest.

An unlabeled image of a known class looks like the held-out images of that class; an
image of anything else has features that no held-out image has. Energies do not
detect this: a shoe predicted as a sandal has the energy of a sandal (docs/advice.md
has the figures). Each image is scored by a forest that was not trained on it (as in
the PU learning of Garg et al. 2021), so held-out images are comparable to unlabeled
images of their class.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier

NUM_FOLDS = 4
NUM_TREES = 60
MIN_LEAF_IMAGES = 15
MAX_IMAGES_PER_TREE = 10_000


def novelty_scores(
    features: tuple[np.ndarray, np.ndarray], predicted: tuple[np.ndarray, np.ndarray], *, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1]: (N,) of the held-out and (M,) of the unlabeled images; all 0 for fewer than two of either.

    features: (N, D) and (M, D), of the base classifier
    predicted: (N,) and (M,) classes. Held-out images are weighted so that each predicted class has as much weight
        among them as among the unlabeled images: different class shares are no novelty
    """
    rng = np.random.default_rng(seed)
    num_held_out, num_unlabeled = map(len, predicted)
    held_out, unlabeled = (np.bincount(classes, minlength=num_classes) + 1 for classes in predicted)
    weights = np.concatenate([(unlabeled / held_out)[predicted[0]], np.ones(num_unlabeled)])
    inputs, is_unlabeled = np.concatenate(features), np.repeat([0, 1], [num_held_out, num_unlabeled])
    scores = np.zeros(len(inputs))
    num_folds = min(NUM_FOLDS, num_held_out, num_unlabeled)
    if num_folds >= 2:
        # Stratified: each fold has its share of the held-out and of the unlabeled images.
        folds = np.concatenate([rng.permutation(number) % num_folds for number in (num_held_out, num_unlabeled)])
        for fold in range(num_folds):
            train = np.flatnonzero(folds != fold)
            forest = RandomForestClassifier(
                NUM_TREES,
                min_samples_leaf=MIN_LEAF_IMAGES,
                max_samples=min(MAX_IMAGES_PER_TREE, len(train)),
                random_state=seed,
            )
            forest.fit(inputs[train], is_unlabeled[train], sample_weight=weights[train])
            scores[folds == fold] = np.asarray(forest.predict_proba(inputs[folds == fold]))[:, 1]
    return scores[:num_held_out], scores[num_held_out:]
