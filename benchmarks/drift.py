"""How soon `predict --stream` tells that the class mix has changed, and how often it speaks up without a cause.

    python benchmarks/drift.py --predictions EVALUATION/predictions.parquet [--streams 20] [--windows 40]

EVALUATION: written by `longtail evaluate` of a checkpoint. A stream is drawn with replacement from its test images,
whose class shares fall from head to tail as in a long tail (rho 20); the first windows, up to 1,000 images, are the
reference. Half-way the shares change: not at all, to equal ones, to the reverse, or the smallest class is gone.
Prints for each change and window size: windows with an alert before the change, streams with an alert after it, and
images after the change until the window of the first one ends (median and maximum over the streams).
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from longtail.data.storage import read_table, table_files
from longtail.spark_jobs.steps.prediction_windows import REFERENCE_IMAGES
from longtail.spark_jobs.steps.window_counts import WindowCounts, confidence_bins, counted
from longtail.streaming.drift import findings

RHO = 20
WINDOW_IMAGES = (100, 300, 1000)


class Pool:
    """Predictions of test images by their true class."""

    def __init__(self, table: Path) -> None:
        rows = read_table(table_files(table)[0])
        rows = rows.filter(pc.equal(rows["split"], "test")) if "split" in rows.column_names else rows
        self.predicted, self.confidence = rows["predicted"].to_numpy(), rows["confidence"].to_numpy().astype(float)
        self.bins = confidence_bins(rows["confidence"]).to_numpy()
        labels = rows["label"].to_numpy()
        self.num_classes = int(labels.max()) + 1
        self.of_class = [np.flatnonzero(labels == label) for label in range(self.num_classes)]

    def drawn(self, shares: np.ndarray, num_images: int, generator: np.random.Generator) -> WindowCounts:
        counts = generator.multinomial(num_images, shares)
        images = np.concatenate([generator.choice(self.of_class[i], count) for i, count in enumerate(counts)])
        return counted(self.predicted[images], self.confidence[images], self.bins[images], num_classes=self.num_classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--windows", type=int, default=40)
    options = parser.parse_args()
    pool = Pool(options.predictions)
    tail = RHO ** -np.linspace(0, 1, pool.num_classes)
    tail /= tail.sum()
    without_last = np.append(tail[:-1], 0) / tail[:-1].sum()
    equal = np.full(pool.num_classes, 1 / pool.num_classes)
    print("| change | images a window | windows with an alert before | streams told after | images until then |")
    print("|---|---:|---:|---:|---:|")
    for name, after in {"none": tail, "equal": equal, "reverse": tail[::-1], "smallest gone": without_last}.items():
        for num_images in WINDOW_IMAGES:
            print(_row(name, pool, tail, after, num_images, options.streams, options.windows))


def _row(
    name: str, pool: Pool, before: np.ndarray, after: np.ndarray, num_images: int, num_streams: int, num_windows: int
) -> str:
    names = [str(label) for label in range(pool.num_classes)]
    false_alarms, first = 0, []
    for seed in range(num_streams):
        generator = np.random.default_rng(seed)
        reference = pool.drawn(before, max(num_images, -(-REFERENCE_IMAGES // num_images) * num_images), generator)
        compared = reference.predictions(reference)
        told = [
            bool(findings(pool.drawn(shares, num_images, generator).predictions(reference), compared, names))
            for shares in (before, after)
            for _ in range(num_windows // 2)
        ]
        false_alarms += sum(told[: num_windows // 2])
        if any(told[num_windows // 2 :]):
            first.append((told[num_windows // 2 :].index(True) + 1) * num_images)
    judged = num_streams * (num_windows // 2)
    soon = f"{np.median(first):.0f} (at most {max(first)})" if first else "-"
    return f"| {name} | {num_images} | {false_alarms} of {judged} | {len(first)} of {num_streams} | {soon} |"


if __name__ == "__main__":
    main()
