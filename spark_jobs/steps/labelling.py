"""Labels the unlabeled part with a trained classifier."""

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import new_table_directory
from longtail.conf.base.optional_packages import deltalake
from longtail.conf.options.data import DataOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.source import SET_IS_PREPARED
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.contract import ID, IMAGE, PROBABILITIES, SPLIT
from longtail.data.delta import write_log
from longtail.data.manifest import Manifest, read_manifest
from longtail.data.pseudo_label_table import (
    CLASS_NAMES_KEY,
    FORMAT_VERSION,
    FORMAT_VERSION_KEY,
    IMAGES_KEY,
    has_probabilities,
)
from longtail.spark_jobs.cluster.cancellation import Call, run_to_their_end
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.frames.predictions import classifier_of, with_pseudo_labels
from longtail.spark_jobs.frames.pseudo_label_quality import with_label_quality
from longtail.spark_jobs.frames.pseudo_label_selection import (
    keep_confident,
    keep_top_k_per_class,
    with_aligned_distribution,
)
from longtail.spark_jobs.frames.reading import read_parquet_or_delta, read_prepared
from longtail.spark_jobs.frames.spoilt_labels import with_spoilt_labels
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.kept_predictions import keep_labels
from longtail.spark_jobs.steps.label_quality import is_labelled, remove_quality, show_quality, write_quality
from longtail.spark_jobs.steps.labelling_events import write_labelling_events
from longtail.spark_jobs.steps.published_layout import write_published_layout
from longtail.training.run_directory import FinishedRun

PSEUDO_LABELS_DIRECTORY = "pseudo_labels"
"""In the data directory, and in the directory of a run that labels for the next one."""
DEFAULT_FILENAME = GenPseudolabelsOptions.model_fields["output_filename"].default


def default_table(options: DataOptions) -> Location:
    """The table that gen_pseudolabels writes and train_semi reads by default."""
    return options.data_dir.absolute() / PSEUDO_LABELS_DIRECTORY / options.set_name() / DEFAULT_FILENAME


def labels_of_run(
    spark: SparkSession, options: TrainSemiOptions | PipelineOptions, run: FinishedRun, *, set_dir: Location
) -> Location:
    """The pseudo-labels by a run's network, in a table in the run's directory, written unless it exists.

    options: of the training that is to learn them

    Prints their quality.
    """
    fields = GenPseudolabelsOptions.model_fields
    shared = {name: value for name, value in options if name in fields and name != "batch_size"}
    output_dir, is_soft = run.run_dir / PSEUDO_LABELS_DIRECTORY, options.pseudo_label_type == "soft"
    own = {"resume": run.checkpoint, "output_dir": output_dir, "probabilities": is_soft}
    labelling = GenPseudolabelsOptions.model_validate({**shared, **own}, context=SET_IS_PREPARED)
    table = output_dir / DEFAULT_FILENAME
    if not is_labelled(table) or (is_soft and not has_probabilities(table)):
        gen_pseudolabels(spark, labelling, set_dir=set_dir)
    show_quality(table)
    return table


def gen_pseudolabels(spark: SparkSession, options: GenPseudolabelsOptions, *, set_dir: Location) -> Location:
    """Write the table of pseudo-labels and its quality; return its path. Raises UserError for invalid input."""
    if options.format == "delta":
        deltalake()  # a missing package is reported before any work
    manifest = read_manifest(set_dir)
    if not manifest.num_images(UNLABELED):
        raise UserError(f"{set_dir} has no unlabeled part: give --imb_factor_unlabel (1 for a balanced one)")
    output_dir = (options.output_dir or default_table(options).parent).absolute()
    table = (output_dir / options.output_filename).with_suffix(".parquet")
    prepared = read_prepared(spark, set_dir)
    images = prepared.where(prepared[SPLIT] == UNLABELED).select(ID, IMAGE)
    classifier = classifier_of(
        options.resume,
        manifest,
        set_dir=set_dir,
        batch_size=options.batch_size,
        threads=options.threads,
        arch=options.arch,
    )
    with (
        described(spark, f"pseudo-labels from {classifier.checkpoint}"),
        Activity(spark, "predicting the unlabeled images") as activity,
    ):
        needed = options.probabilities or options.align is not None
        pseudo_labels = with_pseudo_labels(images, classifier, with_probabilities=needed)
        if options.wrong_share is not None:
            pseudo_labels = with_spoilt_labels(
                pseudo_labels, prepared, share=options.wrong_share, num_classes=manifest.num_classes
            )
        _write_table(pseudo_labels, table, options, manifest)
        activity.now("comparing with the withheld labels")
        compared = with_label_quality(
            read_parquet_or_delta(spark, table), prepared, class_counts=manifest.counts[TRAIN]
        )
        checkpoint = options.resume.absolute()
        collected = Call(compared.collect)
        kept = Call(lambda: keep_labels(spark, table, checkpoint=checkpoint, manifest=manifest, set_dir=set_dir))
        run_to_their_end(spark, collected, kept)
        quality = [row.asDict() for row in collected.value]
        write_labelling_events(spark, table, checkpoint=checkpoint, manifest=manifest, quality=quality)
    if options.output_filename.endswith(".pickle"):
        write_published_layout(spark, options, table, output_dir / options.output_filename, classifier, manifest)
    write_quality(quality, manifest, table)
    return table


def _write_table(
    pseudo_labels: DataFrame, table: Location, options: GenPseudolabelsOptions, manifest: Manifest
) -> None:
    if options.align is not None:
        pseudo_labels = pseudo_labels.persist()  # read twice, computed once
    try:
        with new_table_directory(table) as directory:
            rows = selected(pseudo_labels, options, manifest)
            if not options.probabilities:
                rows = rows.drop(PROBABILITIES)
            rows = rows.withMetadata(
                ID,
                {
                    FORMAT_VERSION_KEY: FORMAT_VERSION,
                    CLASS_NAMES_KEY: manifest.class_names,
                    IMAGES_KEY: manifest.checksums[UNLABELED],
                },
            )
            write_parquet(rows, directory)
            if options.format == "delta":
                write_log(directory)
            remove_quality(table)
    finally:
        pseudo_labels.unpersist()


def selected(pseudo_labels: DataFrame, options: GenPseudolabelsOptions, manifest: Manifest) -> DataFrame:
    """Align and select pseudo-labels of the unlabeled part, as the options specify."""
    if options.align is not None:
        target = [count**options.align for count in manifest.counts[TRAIN]]
        pseudo_labels = with_aligned_distribution(pseudo_labels, target=target)
    if options.threshold is not None:
        pseudo_labels = keep_confident(pseudo_labels, threshold=options.threshold)
    if options.top_k is not None:
        pseudo_labels = keep_top_k_per_class(pseudo_labels, k=options.top_k)
    return pseudo_labels
