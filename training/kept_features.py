"""Features of a prepared set's images by a backbone that does not learn: computed once, and kept beside the set.

    SET/features/KEY/SPLIT/*.parquet

has the id and the features of each image of a split (FEATURE_SCHEMA). KEY is a hash of all that decides them: the set,
the backbone's tensors and the normalisation. Spark tasks write the files before a training that needs them
(spark_jobs/steps/features.py). Without Spark, or where the set cannot be written, the ranks of the training compute
them together. The passes are the same (training/inference.py), and so are the features.
"""

import copy
import hashlib
import struct
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import is_finished, new_table_directory
from longtail.conf.options.classifier import INFERENCE_BATCH_SIZE
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.contract import FEATURE_SCHEMA, FEATURES, ID
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.storage import read_table, table_files
from longtail.models.build import num_features
from longtail.models.network import Network
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoints import HEAD_PREFIX
from longtail.training.distributed import Rank, sum_over_ranks
from longtail.training.evaluation import evaluation_batch_size
from longtail.training.images import image_batches
from longtail.training.inference import feature_passes, for_inference
from longtail.training.samples import Samples
from longtail.training.training_data import TrainingData

FEATURES_DIRECTORY = "features"
_ROWS_AT_ONCE = 10_000


class KeptFeatures:
    """The features of a set's images by a network whose backbone does not change any more."""

    def __init__(self, network: Network, data: TrainingData, set_dir: Location, rank: Rank) -> None:
        self._network, self._data, self._rank = network, data, rank
        self._directory = features_directory(set_dir, network, data.normalisation, read_manifest(set_dir))

    def of_training(self) -> Tensor:
        """(N, D) float32 features of the training samples, on the rank's device."""
        train, num_labelled = self._data.train, self._data.num_labelled
        splits = {TRAIN: slice(0, num_labelled), UNLABELED: slice(num_labelled, len(train))}
        return self._found(train, {split: rows for split, rows in splits.items() if rows.start < rows.stop})

    def of_held_out(self, split: str) -> Tensor:
        """(N, D) float32 features of a held-out split, on the rank's device."""
        samples = self._data.held_out[split]
        return self._found(samples, {split: slice(0, len(samples))})

    def _found(self, samples: Samples, splits: Mapping[str, slice]) -> Tensor:
        """The kept features that rank 0 reads, or computed ones, which it keeps; splits: the rows of each."""
        rank, ids = self._rank, samples.ids.numpy()
        kept = self._read(ids, splits) if rank.is_first else None
        is_kept = sum_over_ranks(torch.tensor([float(kept is not None)], device=rank.device), rank).item() > 0
        if is_kept:
            shape = len(ids), num_features(self._network)
            found = torch.zeros(shape) if kept is None else torch.from_numpy(kept)
            return sum_over_ranks(found.to(rank.device), rank)
        features = computed_features(self._network, samples, self._data.normalisation, rank)
        if rank.is_first:
            for split, rows in splits.items():
                _keep(self._directory / split, ids[rows], features[rows].cpu().numpy())
        return features

    def _read(self, ids: np.ndarray, splits: Mapping[str, slice]) -> np.ndarray | None:
        """(N, D) features in the order of the ids; None unless all are kept."""
        width = num_features(self._network)
        parts = [_read_split(self._directory / split, ids[rows], width) for split, rows in splits.items()]
        found = [part for part in parts if part is not None]
        return np.concatenate(found) if len(found) == len(parts) else None


def features_directory(
    set_dir: Location, network: Network, normalisation: Normalisation, manifest: Manifest
) -> Location:
    """The directory of the splits' features, named by a hash of all that decides them."""
    digest = hashlib.sha256(manifest.identity.encode())
    # As the network gets them, in float32.
    for values in (normalisation.mean, normalisation.std):
        digest.update(struct.pack(f"<{len(values)}f", *values))
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(HEAD_PREFIX):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return set_dir / FEATURES_DIRECTORY / digest.hexdigest()[:16]


def images_per_pass(image_shape: tuple[int, int, int]) -> int:
    """At most so many images of (channels, height, width) are in a forward pass, whoever computes the features."""
    return min(INFERENCE_BATCH_SIZE, evaluation_batch_size(image_shape))


def computed_features(network: Network, samples: Samples, normalisation: Normalisation, rank: Rank) -> Tensor:
    """(N, D) float32 features of samples, computed by all ranks together, on the rank's device."""
    channels, height, width = samples.image_shape
    folded = for_inference(copy.deepcopy(network).cpu().eval(), (height, width, channels)).to(rank.device)
    # A copy, as autograd may save no tensor that is made in inference mode.
    return _in_passes(folded, samples, normalisation, rank).clone()


@torch.inference_mode()
def _in_passes(network: Network, samples: Samples, normalisation: Normalisation, rank: Rank) -> Tensor:
    size, share = images_per_pass(samples.image_shape), rank.part(len(samples))
    features = torch.zeros(len(samples), num_features(network), device=rank.device)
    starts = range(share.start, share.stop, size)
    batches = [torch.arange(start, min(start + size, share.stop)) for start in starts]
    images_of_batches = image_batches(samples.images, batches, rank.device) if batches else ()
    for indices, images in zip(batches, images_of_batches, strict=True):
        rank.beat("features")
        first = int(indices[0])
        for found, num_images in feature_passes(network, normalisation, images, batch_size=size, device=rank.device):
            features[first : first + num_images] = found.float()[:num_images]
            first += num_images
    return sum_over_ranks(features, rank)


def _read_split(directory: Location, ids: np.ndarray, width: int) -> np.ndarray | None:
    """(N, width) features in the order of the ids; None unless all are there, whole and numbers."""
    try:
        if not is_finished(directory):
            return None
        rows = pa.concat_tables([read_table(file) for file in table_files(directory)])
        known = rows[ID].to_numpy()
        parts = [part.flatten().to_numpy() for part in rows[FEATURES].chunks]  # raises if numbers are null
        flat = np.concatenate(parts) if parts else np.empty(0, np.float32)
    except (UserError, OSError, ValueError, KeyError, AttributeError):
        return None
    if flat.size != len(known) * width or flat.dtype != np.float32 or not np.isfinite(flat).all():
        return None
    order = np.argsort(known)
    places = np.searchsorted(known[order], ids)
    if len(ids) and (not len(known) or places.max() >= len(known) or (known[order][places] != ids).any()):
        return None
    return flat.reshape(len(known), width)[order[places]]


def _keep(directory: Location, ids: np.ndarray, features: np.ndarray) -> None:
    """Where the set cannot be written, the features serve this training alone."""
    with suppress(OSError, UserError), new_table_directory(directory) as unfinished:
        file = unfinished / "features.parquet"
        with file.open("wb") as target, pq.ParquetWriter(target, FEATURE_SCHEMA, write_page_checksum=True) as writer:
            for first in range(0, len(ids), _ROWS_AT_ONCE):
                rows = features[first : first + _ROWS_AT_ONCE]
                offsets = pa.array(np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32))
                columns = [
                    pa.array(ids[first : first + _ROWS_AT_ONCE]),
                    pa.ListArray.from_arrays(offsets, rows.ravel()),
                ]
                writer.write_table(pa.table(columns, schema=FEATURE_SCHEMA))
