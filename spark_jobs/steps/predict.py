"""Predicts the classes of new images by a checkpoint, which is all that is needed."""

from dataclasses import dataclass

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import new_table_directory
from longtail.conf.base.optional_packages import deltalake
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.inference import PredictOptions
from longtail.data.contract import BAD_IMAGE, NAMED_PREDICTION_SCHEMA, PREDICTED
from longtail.data.delta import write_log
from longtail.data.storage import is_table, open_parquet, table_files
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.frames.named_predictions import Additions
from longtail.spark_jobs.frames.predictions import classifier_alone
from longtail.spark_jobs.frames.reading import read_parquet_or_delta
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.class_shares import CLASS_SHARES_FILE, ClassShares, with_prior
from longtail.spark_jobs.steps.new_images import new_images
from longtail.spark_jobs.steps.predict_stream import STREAM_FILE

FORMAT_VERSION_KEY = "longtail_predictions"
FORMAT_VERSION = 1
BAD_IMAGES_NAMED = 5


@dataclass(frozen=True)
class PredictedTable:
    """bad_images: the first BAD_IMAGES_NAMED of num_bad, each as the row's first column and the reason

    class_shares: those of --prior
    """

    path: Location
    num_images: int
    num_bad: int
    bad_images: list[tuple[str, str]]
    class_shares: ClassShares | None


def check_output(options: PredictOptions) -> None:
    """Raise UserError if the table cannot be written, or if something else than predictions would be replaced."""
    if options.format == "delta":
        deltalake()  # a missing package is reported before any work
    check_can_be_written(options.output.absolute().parent, option="--output")
    if (options.output / STREAM_FILE).is_file():
        raise UserError(f"--output {options.output} is the table of a stream: name another directory, or give --stream")
    if options.output.exists() and not _are_predictions(options.output):
        raise UserError(
            f"--output {options.output} is there already, and is no table of predictions: name another directory"
        )


def predict(spark: SparkSession, options: PredictOptions) -> PredictedTable:
    """Write the predictions. Raises UserError for invalid input; nothing is written then."""
    assert options.path is not None, "the options are checked"
    check_output(options)
    classifier, metadata = classifier_alone(
        options.resume,
        batch_size=options.batch_size,
        threads=options.threads,
        logit_adjustment=options.logit_adjustment,
        arch=options.arch,
    )
    output = options.output.absolute()
    additions = Additions(probabilities=options.probabilities, features=options.features)
    with (
        described(spark, f"predict {options.path} by {classifier.checkpoint}"),
        new_images(spark, options.path, options, beside=output.parent, list_file=options.list_file) as found,
        new_table_directory(output) as directory,
    ):
        classifier, class_shares = with_prior(
            classifier,
            metadata,
            options.prior,
            lambda uncorrected: found.sample(num_classes=len(metadata.class_names), kept=[]).predicted(
                uncorrected, metadata.class_names, Additions(probabilities=True)
            ),
            beside=output.parent,
        )
        predicted = found.predicted(classifier, metadata.class_names, additions)
        predicted = predicted.withMetadata(PREDICTED, {FORMAT_VERSION_KEY: FORMAT_VERSION})
        write_parquet(predicted, directory)
        if options.format == "delta":
            write_log(directory)
        if class_shares is not None:
            class_shares.write(directory / CLASS_SHARES_FILE)
    return _summary(spark, output, predicted.schema, class_shares, key=found.kept[0] if found.kept else None)


def _summary(
    spark: SparkSession, table: Location, schema: StructType, class_shares: ClassShares | None, *, key: str | None
) -> PredictedTable:
    written = read_parquet_or_delta(spark, table, schema)
    counts = written.agg(F.count("*"), F.count(BAD_IMAGE)).first()
    assert counts is not None, "an aggregation without groups has one row"
    bad: list[tuple[str, str]] = []
    if counts[1]:
        name = F.lit("a row") if key is None else F.col(f"`{key}`").cast("string")
        rows = written.where(F.col(BAD_IMAGE).isNotNull()).select(name, BAD_IMAGE).limit(BAD_IMAGES_NAMED).collect()
        bad = [(str(row[0]), row[1]) for row in rows]
    return PredictedTable(table, counts[0], counts[1], bad, class_shares)


def _are_predictions(path: Location) -> bool:
    if not path.is_dir() or not is_table(path):
        return False
    with open_parquet(table_files(path)[0]) as parquet:
        return set(parquet.schema_arrow.names) >= set(NAMED_PREDICTION_SCHEMA.names)
