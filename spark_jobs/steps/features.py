"""Computes the features that a training of a head alone learns from, a partition at a time, before it starts.

They are kept beside the set (training/kept_features.py), where the ranks of this training find them, and those of the
next one with the same backbone.
"""

from typing import TYPE_CHECKING

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import is_finished, new_table_directory, scratch_location
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import ID, IMAGE, SPLIT
from longtail.data.manifest import Manifest, read_manifest
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.cluster.visibility import check_seen
from longtail.spark_jobs.frames.features import with_features
from longtail.spark_jobs.frames.predictions import Classifier
from longtail.spark_jobs.frames.reading import read_prepared
from longtail.spark_jobs.frames.writing import write_parquet

if TYPE_CHECKING:
    from longtail.models.network import Network
    from longtail.training.augmentation import Normalisation

_NETWORK_FILE = "network.pth.tar"


def keep_features(spark: SparkSession, options: RunOptions, set_dir: Location) -> None:
    """Compute the features that the training needs and that are not there; print how many images that were.

    The ranks compute them if the tasks cannot: if these do not see the set or cannot write there, or have no GPU where
    the ranks have one.

    Raises UserError if the checkpoint does not fit.
    """
    if not options.feature_splits or not _tasks_can(spark, options, set_dir):
        return
    from longtail.training.kept_features import features_directory
    from longtail.training.networks import backbone_alone
    from longtail.training.training_data import set_normalisation

    manifest = read_manifest(set_dir)
    network, normalisation = backbone_alone(options, manifest), set_normalisation(options, manifest)
    directory = features_directory(set_dir, network, normalisation, manifest)
    missing = [
        split
        for split in options.feature_splits
        if manifest.num_images(split) and not is_finished(directory / split)
    ]  # fmt: skip
    if not missing:
        return
    num_images = sum(manifest.num_images(split) for split in missing)
    print(f"computing the features of {num_images} images once, for this training and the next: {directory}")
    images = read_prepared(spark, set_dir)
    with described(spark, f"features of {set_dir}"), scratch_location(directory, "network") as scratch:
        classifier = _shared_network(scratch / _NETWORK_FILE, network, normalisation, options, manifest)
        for split in missing:
            with new_table_directory(directory / split) as unfinished:
                of_split = images.where(F.col(SPLIT) == split).select(ID, IMAGE)
                write_parquet(with_features(of_split, classifier), unfinished)


def _tasks_can(spark: SparkSession, options: RunOptions, set_dir: Location) -> bool:
    import torch

    if options.data_through == "partitions":
        return False
    if is_local(spark.sparkContext.master) and torch.cuda.is_available():
        return False  # local tasks are granted no GPU
    try:
        check_seen(spark, set_dir, option="--data_dir")
        check_can_be_written(set_dir, option="--data_dir")
    except UserError:
        return False
    return True


def _shared_network(
    file: Location, network: "Network", normalisation: "Normalisation", options: RunOptions, manifest: Manifest
) -> Classifier:
    """Write a network to a file, from which the tasks load it."""
    from longtail.training.checkpoint_metadata import CheckpointMetadata
    from longtail.training.checkpoints import Checkpoint, save_checkpoint
    from longtail.training.kept_features import images_per_pass

    height, width, channels = manifest.image_shape
    counts = manifest.counts[TRAIN]
    metadata = CheckpointMetadata(
        run="features",
        phase=options.phase,
        arch=options.arch,
        head="linear",
        logit_scale=1.0,
        class_names=manifest.class_names,
        class_counts=counts,
        rule_counts=counts,
        pseudo_label_round=0,
        image_shape=manifest.image_shape,
        normalisation=normalisation,
        options=options.recorded(),
        set_identity=manifest.identity,
    )
    checkpoint = Checkpoint(
        epoch=0, arch=options.arch, state_dict=network.state_dict(), optimizer=None, best=None, metadata=metadata
    )
    save_checkpoint(file, checkpoint)
    return Classifier(
        checkpoint=file,
        version=content_hash(file),
        image_shape=manifest.image_shape,
        encoding=manifest.encoding,
        batch_size=images_per_pass((channels, height, width)),
        arch=options.arch,
    )
