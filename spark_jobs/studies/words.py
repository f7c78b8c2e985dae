"""The words of the papers that reports use, for readers who do not know these: those that occur in a report."""

import re

_WORDS = {
    "balanced accuracy": "mean of the accuracies of the classes, so that rare classes count as much as common ones.",
    "few-shot": "of the classes with the fewest labelled images, in the tail of the class sizes (--few_shot).",
    "rule": "how the training allows for class sizes: by the loss, or by how often images are drawn.",
    "SSP": "self-supervised pre-training: the network first learns without labels, and then with them.",
    "D_U": "unlabeled images that are trained on with pseudo-labels, the classes that a classifier predicts for them.",
    "rho": "imbalance of the labelled images: size of the largest class divided by size of the smallest.",
    "rho_U": "the same of the unlabeled images; 1 is balanced.",
    "gamma": "imbalance: size of the largest class divided by size of the smallest.",
    "relevance": "share of the unlabeled images that belong to one of the classes.",
    "CE": "cross-entropy, the usual loss.",
    "Resample": "images of rare classes are drawn more often, as often as those of common ones.",
    "LDAM": "a loss with larger margins for rarer classes.",
    "DRW": "larger weights for rare classes, late in the training.",
    "cRT": "the classifier is trained anew on class-balanced images, on features that stay as they are.",
    "FixMatch": "pseudo-labels made in every step, of those images of which the network is confident.",
}  # fmt: skip
_OF_TESTS = (
    "- *pairs, settings*: a pair is two trials that differ in nothing but the level; those with the same levels of the "
    "other axes, which differ in their seed, are a setting."
)


def words_used(text: str) -> list[str]:
    """Lines of a list: the words that a text has and what they mean, and what is paired."""
    used = [
        f"- *{word}*: {meaning}"
        for word, meaning in _WORDS.items()
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    ]
    return [*used, _OF_TESTS]
