"""Predictions for images whose class shares differ from the training's: what each way of correcting them gains.

    python benchmarks/class_shares.py --resume CKPT --set_dir SET [--draws 50] [--images 2000]

CKPT: a classifier that was trained on SET with --val_fraction. Test images are drawn with replacement so that their
class shares are those of a shift: drawn from a Dirichlet distribution (the smaller alpha, the farther from uniform),
those of the training, or those of the training in reverse. On each draw:

- none: the classifier as it is;
- BBSE: shares from hard predictions and the confusion of validation images (Lipton et al. 2018), never negative;
- EM: shares by expectation-maximisation on the probabilities as they are (Saerens et al. 2002);
- EM calibrated: on probabilities that are calibrated on the validation images, as `predict --prior estimated` does;
- known: the true shares, on calibrated probabilities.

Prints, for each shift, the mean error of the shares (half the sum of absolute differences) and the mean accuracy over
the draws, each with the standard error of its difference to `none`. Validation images alone are used for fitting.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from longtail.conf.vocabulary import TEST, VAL
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.training.calibration import fit_calibration
from longtail.training.inference import infer_with, read_classifier, training_shares
from longtail.training.prior_shift import estimate_shares, log_ratios

BATCH_SIZE = 500
METHODS = ("none", "BBSE", "EM", "EM calibrated", "known")


class Classifier:
    """Probabilities of the validation and the test images: as they are, and calibrated on the validation images."""

    def __init__(self, checkpoint: Path, set_dir: Path) -> None:
        network, metadata = read_classifier(checkpoint)
        manifest = read_manifest(set_dir)
        if metadata.class_names != manifest.class_names or metadata.calibration is not None:
            raise SystemExit("a checkpoint of the set's classes, without a calibration, was expected")

        def outputs(split: str) -> tuple[np.ndarray, np.ndarray]:
            found = load_split(set_dir, split, manifest)
            assert found.labels is not None
            logits = infer_with(network, metadata, found.images, path=checkpoint, batch_size=BATCH_SIZE).logits.numpy()
            return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)), found.labels

        self.val, self.val_labels = outputs(VAL)
        self.test, self.test_labels = outputs(TEST)
        calibration = fit_calibration(self.val, self.val_labels)
        self.calibration = calibration
        self.calibrated_test = calibration.scaling.probabilities(np.log(np.maximum(self.test, 1e-30)))
        self.shares = training_shares(metadata)
        self.calibrated_shares = np.array(calibration.scaling.class_shares)


def black_box_shares(predicted: np.ndarray, classifier: Classifier) -> np.ndarray:
    """(C,) class shares by BBSE.

    predicted: (N,) classes predicted for the new images
    """
    num_classes = len(classifier.shares)
    joint = np.zeros((num_classes, num_classes))  # share of the validation images that are predicted i and are j
    np.add.at(joint, (classifier.val.argmax(axis=1), classifier.val_labels), 1 / len(classifier.val_labels))
    observed = np.bincount(predicted, minlength=num_classes) / len(predicted)
    ratios, _ = nnls(joint, observed)
    shares = ratios * joint.sum(axis=0)
    return shares / shares.sum()


def corrected(probabilities: np.ndarray, shares: np.ndarray, old: np.ndarray) -> np.ndarray:
    """(N,) classes predicted for class shares (C,)."""
    return (np.log(np.maximum(probabilities, 1e-30)) + log_ratios(shares, old)).argmax(axis=1)


def measured(classifier: Classifier, shares: np.ndarray, num_images: int, rng: np.random.Generator) -> np.ndarray:
    """(methods, 2) error of the estimated shares and accuracy, on one draw of test images with the shares (C,)."""
    counts = rng.multinomial(num_images, shares)
    of_class = [np.flatnonzero(classifier.test_labels == class_id) for class_id in range(len(shares))]
    rows = np.concatenate([rng.choice(pool, count) for pool, count in zip(of_class, counts, strict=True)])
    truth, plain, calibrated = classifier.test_labels[rows], classifier.test[rows], classifier.calibrated_test[rows]
    true_shares = counts / num_images
    results = []
    for method in METHODS:
        probabilities, old = plain, classifier.shares
        if method in ("EM calibrated", "known"):
            probabilities, old = calibrated, classifier.calibrated_shares
        match method:
            case "none":
                found = old
            case "BBSE":
                found = black_box_shares(plain.argmax(axis=1), classifier)
            case "known":
                found = true_shares
            case _:
                found = estimate_shares(probabilities.astype(np.float32), old)
        right = corrected(probabilities, found, old) == truth
        results.append((np.abs(found - true_shares).sum() / 2, right.mean()))
    return np.array(results)


def shifts(classifier: Classifier) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    num_classes = len(classifier.shares)

    def dirichlet(alpha: float) -> Callable[[np.random.Generator], np.ndarray]:
        return lambda rng: rng.dirichlet(np.full(num_classes, alpha))

    return {
        "Dirichlet 0.1": dirichlet(0.1),
        "Dirichlet 1": dirichlet(1.0),
        "Dirichlet 10": dirichlet(10.0),
        "as in training": lambda rng: classifier.shares,
        "training in reverse": lambda rng: classifier.shares[::-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", type=Path, required=True, metavar="CKPT")
    parser.add_argument("--set_dir", type=Path, required=True, metavar="SET")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    classifier = Classifier(arguments.resume, arguments.set_dir)
    before, after = classifier.calibration.before.error, classifier.calibration.after.error
    print(f"{len(classifier.val_labels)} validation images; calibration error {before:.1%} before, {after:.1%} after")
    print(f"{arguments.draws} draws of {arguments.images} of {len(classifier.test_labels)} test images\n")
    print("| shift | " + " | ".join(METHODS) + " |\n" + "|---" * (1 + len(METHODS)) + "|")
    for name, draw_shares in shifts(classifier).items():
        rng = np.random.default_rng(0)
        found = np.stack(
            [measured(classifier, draw_shares(rng), arguments.images, rng) for _ in range(arguments.draws)]
        )  # (draws, methods, 2)
        print(f"| {name} | " + " | ".join(cell(found, method) for method in range(len(METHODS))) + " |")


def cell(found: np.ndarray, method: int) -> str:
    """Mean error of the shares, mean accuracy, and standard error of the gain over no correction, in per cent."""
    error, accuracy = 100 * found[:, method].mean(axis=0)
    gains = 100 * (found[:, method, 1] - found[:, 0, 1])
    spread = f" ± {gains.std(ddof=1) / len(gains) ** 0.5:.1f}" if method else ""
    return f"{error:.1f} / {accuracy:.1f}{spread}"


if __name__ == "__main__":
    main()
