"""Export the features of a trained network: a table for other tools, and a picture.

A Parquet table with one row per image (id, label, prediction, features), and a t-SNE map of the test split (van der
Maaten & Hinton 2008).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from longtail.conf.base.files import write_atomically
from longtail.conf.base.names import figure_label
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.data.contract import FEATURES, ID, LABEL, PREDICTED, SPLIT
from longtail.training.metrics import Predictions
from longtail.training.samples import Samples
from longtail.training.training_data import TrainingData

MAX_POINTS = 2000
"""Maximum number of images in a t-SNE map: more take minutes and add no information."""
MAX_LEGEND = 20
"""Maximum number of classes with a colour of their own; beyond it, colours show shot groups."""


def write_features(
    path: Path, samples: dict[str, Samples], predictions: dict[str, Predictions], features: dict[str, Tensor]
) -> None:
    """One table of all splits: split, id, label, predicted, features (a float32 list of fixed length)."""
    tables = []
    for split, these in samples.items():
        vectors = features[split].cpu().numpy()
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        columns = {
            SPLIT: pa.array([split] * len(these)),
            ID: pa.array(these.ids.cpu().numpy()),
            LABEL: pa.array(these.labels.cpu().numpy().astype(np.int32)),
            PREDICTED: pa.array(predictions[split].predicted.cpu().numpy().astype(np.int32)),
            FEATURES: lists,
        }
        tables.append(pa.table(columns))
    write_atomically(path, lambda temporary: pq.write_table(pa.concat_tables(tables), temporary))


def tsne_map(features: np.ndarray, *, seed: int) -> np.ndarray:
    """Map (N, D) features to (N, 2) coordinates that keep neighbours close."""
    # The usual perplexity, which must stay well below the number of points.
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=seed % 2**32).fit_transform(features)


def write_tsne_plot(path: Path, samples: Samples, features: Tensor, data: TrainingData, *, seed: int) -> None:
    """Plot a map of at most MAX_POINTS images, chosen by the seed, coloured by class or shot group; PNG, PDF or SVG."""
    chosen = np.random.default_rng(seed).permutation(len(samples))[:MAX_POINTS]
    points = tsne_map(features.cpu().numpy()[chosen], seed=seed)  # (n, 2)
    labels = samples.labels.cpu().numpy()[chosen]
    if len(data.class_names) <= MAX_LEGEND:
        names, colour = data.class_names, labels
    else:
        names, colour = list(SHOT_GROUPS), np.array([SHOT_GROUPS.index(data.shot_groups[label]) for label in labels])
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots()
    palette = colormaps["tab20" if len(names) > 10 else "tab10"]
    for number, name in enumerate(names):
        these = points[colour == number]
        axes.scatter(these[:, 0], these[:, 1], s=8, color=palette(number), label=figure_label(name))
    axes.set(xticks=[], yticks=[], title=f"t-SNE of the features of {len(chosen)} test images")
    axes.legend(markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=150))
