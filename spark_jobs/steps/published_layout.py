"""Pseudo-labels in the published layout, which has a label for every image of a published source."""

from collections.abc import Mapping, Sequence

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.source import OWN_IMAGES
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.contract import ID, IMAGE, PSEUDO_LABEL
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.pseudo_label_table import load_pseudo_labels
from longtail.data.published_pseudo_labels import write_published_pseudo_labels
from longtail.data.sources.base import Located
from longtail.data.sources.registry import source_of
from longtail.data.sources.unlabeled import has_published_order, unlabeled_source
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.frames.predictions import Classifier, with_pseudo_labels
from longtail.spark_jobs.frames.reading import read_parquet_or_delta, source_images


def ids_of_published_source(
    options: DataOptions, sources: Sequence[Located], found: Mapping[tuple[str, int], int]
) -> tuple[int, int] | None:
    """The first id and the number of images of the source of the unlabeled part (Manifest.unlabeled_ids).

    sources: the data set, and the source of --unlabeled behind it
    found: images by split and class
    """
    if options.num_classes is not None or options.irrelevant_dataset is not None:
        return None
    if options.unlabeled is None and options.dataset not in OWN_IMAGES:
        located, split = sources[0], TRAIN
    elif options.unlabeled is not None and has_published_order(options.unlabeled):
        located, split = sources[1], UNLABELED
    else:
        return None
    first_id = min(shard.first_id for shard in located.shards if shard.split == split)
    return first_id, sum(count for (of_split, _), count in found.items() if of_split == split)


def check_source_is_named(options: GenPseudolabelsOptions, set_dir: Location | None) -> None:
    """Raise UserError if the published layout needs a source that a checkpoint chose, and not the user.

    set_dir: the prepared set that the checkpoint led to; None if the user names the data set
    """
    if set_dir is None or not options.output_filename.endswith(".pickle"):
        return
    if read_manifest(set_dir).unlabeled_ids is not None:
        raise UserError(
            f"{options.output_filename} needs every image of {options.dataset}, and a checkpoint does not decide what "
            f"is read or downloaded: name the data set with --dataset {options.dataset}"
        )


def write_published_layout(
    spark: SparkSession,
    options: DataOptions,
    table: Location,
    file: Location,
    classifier: Classifier,
    manifest: Manifest,
) -> None:
    """Write the labels of a table, and those of all other images of a published source, to a pickle."""
    ids, labels, _ = load_pseudo_labels(table)
    if manifest.unlabeled_ids is not None:
        with described(spark, f"pseudo-labels of the images that {table.name} lacks"):
            labelled = read_parquet_or_delta(spark, table).select(ID)
            others = _images_of_source(spark, options).join(labelled, ID, "left_anti")
            rest = with_pseudo_labels(others, classifier, with_probabilities=False).select(ID, PSEUDO_LABEL).toArrow()
        ids = np.concatenate([ids, rest[ID].to_numpy()])
        labels = np.concatenate([labels, rest[PSEUDO_LABEL].to_numpy()])
    write_published_pseudo_labels(file, ids, labels, manifest, prediction_model=str(classifier.checkpoint))


def _images_of_source(spark: SparkSession, options: DataOptions) -> DataFrame:
    """id, image of every image of the published source that the unlabeled part is drawn from."""
    source = source_of(options)
    located, split = source.locate(options), TRAIN
    if options.unlabeled is not None:
        source, base, split = unlabeled_source(options, located), located, UNLABELED
        located = source.locate(options, base)
    shards = [shard for shard in located.shards if shard.split == split]
    return source_images(spark, source, shards).select(ID, IMAGE)
