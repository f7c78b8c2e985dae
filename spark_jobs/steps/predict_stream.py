"""Predicts images that arrive, by Structured Streaming: each is in the table once, whenever the process is killed.

A micro-batch is the directory OUTPUT/batch=N, which appears whole and replaces itself if the batch is processed again.
What has been read is in Spark's checkpoint, OUTPUT/_checkpoint. One process at a time writes a table.
"""

import datetime
import json
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyspark
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, write_json_atomically
from longtail.conf.base.locations import spark_uri
from longtail.conf.base.locks import lock_file
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.inference import PredictOptions
from longtail.data.class_names import check_same_order
from longtail.data.delta import delta_connector, is_delta
from longtail.spark_jobs.cluster.cancellation import reported_briefly
from longtail.spark_jobs.cluster.session import described, spark_session
from longtail.spark_jobs.frames.arriving_images import ArrivingImages, arriving_images, arriving_messages
from longtail.spark_jobs.frames.image_columns import column
from longtail.spark_jobs.frames.named_predictions import Additions, with_named_predictions
from longtail.spark_jobs.frames.predictions import classifier_alone
from longtail.spark_jobs.frames.reading import persisted
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.class_shares import ClassShares, with_prior
from longtail.spark_jobs.steps.event_source import kafka_connection, topic_name
from longtail.spark_jobs.steps.prediction_events import PredictionEvents, place_of_events
from longtail.spark_jobs.steps.prediction_samples import DRAW, SAMPLED, ProbabilitySamples
from longtail.spark_jobs.steps.prediction_windows import WINDOWS_DIRECTORY, PredictionWindows
from longtail.spark_jobs.steps.window_counts import read_reference
from longtail.streaming.live.checkpoint import empty_if_not_begun
from longtail.streaming.live.kafka import KAFKA_PACKAGE
from longtail.streaming.live.kafka_brokers import KafkaConnection
from longtail.streaming.live.starting import PatientQuery
from longtail.streaming.live.trigger import with_trigger

if TYPE_CHECKING:
    from longtail.training.checkpoint_metadata import CheckpointMetadata

CHECKPOINT_DIRECTORY = "_checkpoint"
STREAM_FILE = "_stream.json"
"""In the table's directory: what it is of, so that a restart with other options does not mix two streams."""
LOCK_FILE = "_lock"


def predict_stream(
    options: PredictOptions,
    *,
    on_batch: Callable[[int], None],
    on_window: Callable[[datetime.datetime, list[str]], None],
) -> None:
    """Start Spark and predict what arrives until interrupted; with --once what is there.

    on_batch: called with the number of images of each micro-batch
    on_window: called for each window that has ended, with what differs from the reference

    Raises UserError for invalid input, and if another process writes the table.
    """
    assert isinstance(options.output, Path), "the options are checked"
    output = options.output.absolute()
    check_can_be_written(output.parent, option="--output")
    kafka = kafka_connection(options, options.bootstrap_servers) if options.bootstrap_servers else None
    packages = [KAFKA_PACKAGE] if kafka else []
    if options.path is not None and is_delta(options.path):
        packages.append(delta_connector(options.path, pyspark.__version__))
    # A name of its own: it does not run over Spark Connect, as predict does.
    spark = spark_session("predict --stream", options, packages=packages, networks=True)
    classifier, metadata = classifier_alone(
        options.resume,
        batch_size=options.batch_size,
        threads=options.threads,
        logit_adjustment=options.logit_adjustment,
        arch=options.arch,
    )
    classifier, prior = with_prior(classifier, metadata, options.prior, _no_probabilities, beside=output.parent)
    names = metadata.class_names
    reference = None if options.reference is None else read_reference(options.reference, names, of=options.resume)
    arriving, source = _arriving(spark, options, kafka)
    _check_output(output)
    refusal = f"another process writes the predictions in {output}: stop it first, or name another --output"
    with closing(lock_file(output / LOCK_FILE, refusal)):
        _claim(output, source, options, names)
        empty_if_not_begun(output / CHECKPOINT_DIRECTORY)
        windows = PredictionWindows(output, names, seconds=options.window_seconds, reference=reference)
        watched = _watched(output, options, metadata, prior)
        additions = Additions(probabilities=options.probabilities, features=options.features)
        stopping = threading.Event()

        def tell(*, is_over: bool = False) -> None:
            for window in windows.ended(is_over=is_over):
                if watched is not None:
                    watched.events.write(window, watched.samples.probabilities(window.start))
                if windows.note_reported(window) and window.findings is not None:
                    on_window(window.start, window.findings)
            if watched is not None:
                watched.samples.forget()

        def predicted(batch: DataFrame, additions: Additions) -> DataFrame:
            return with_named_predictions(
                batch, classifier, names, arriving.images,
                on_bad_image=options.on_bad_image, kept=arriving.kept, additions=additions,
            )  # fmt: skip

        def write(batch: DataFrame, batch_id: int) -> None:
            table = output / f"batch={batch_id}"
            with (
                reported_briefly(stopping),
                described(batch.sparkSession, f"predict {source}"),
                new_directory(table, replace=True) as directory,
            ):
                found = predicted(batch, additions)
                if watched is None:
                    write_parquet(found, directory)
                else:
                    with_all = predicted(batch, replace(additions, probabilities=True))
                    num_rows = batch.count() if arriving.may_be_many else None
                    # Of the probabilities of all classes, only a sample's are kept until they are written.
                    sampled = watched.samples.with_sample(with_all, num_rows=num_rows)
                    with persisted(sampled.select(*map(column, found.columns), DRAW, SAMPLED)) as rows:
                        write_parquet(rows.select(*map(column, found.columns)), directory)
                        watched.samples.add(batch_id, rows)
            on_batch(windows.add(batch_id, table))
            tell()

        writer = arriving.rows.writeStream.foreachBatch(write).option(
            "checkpointLocation", spark_uri(output / CHECKPOINT_DIRECTORY)
        )
        query = PatientQuery(with_trigger(writer, None if options.once else options.trigger).start)
        try:
            query.awaitTermination()
        finally:
            stopping.set()
            query.stop()
        tell(is_over=True)


@dataclass(frozen=True)
class _Watched:
    """A stream whose windows are metric events of a run."""

    events: PredictionEvents
    samples: ProbabilitySamples


def _watched(
    output: Path, options: PredictOptions, metadata: "CheckpointMetadata", prior: ClassShares | None
) -> _Watched | None:
    """None if the checkpoint is in no directory of runs."""
    from longtail.training.inference import shares_of_outputs

    place = place_of_events(options.resume)
    if place is None:
        return None
    shares = shares_of_outputs(metadata) if prior is None else np.array(prior.shares)
    seconds = options.window_seconds
    return _Watched(
        PredictionEvents(
            *place, output=output, seconds=seconds, metadata=metadata,
            shares=shares if options.logit_adjustment is None else None,
        ),
        ProbabilitySamples(output / WINDOWS_DIRECTORY, num_classes=len(metadata.class_names), seconds=seconds),
    )  # fmt: skip


def _arriving(
    spark: SparkSession, options: PredictOptions, kafka: KafkaConnection | None
) -> tuple[ArrivingImages, str]:
    """The images, and a text that names where they are from."""
    if options.path is not None:
        return arriving_images(spark, options.path, image=options.image_column), str(options.path)
    assert kafka is not None and options.topic is not None, "the options are checked"
    source = topic_name(spark, options.topic, kafka)
    return arriving_messages(spark, options.topic, kafka.options()), source


def _no_probabilities(classifier: object) -> DataFrame:
    raise AssertionError("the options refuse class shares that are estimated from all images")


def _check_output(output: Path) -> None:
    """Raise UserError if the directory holds something else than the table of a stream."""
    if not output.exists() or (output / STREAM_FILE).is_file():
        return
    if not output.is_dir() or any(file.name != LOCK_FILE for file in output.iterdir()):
        raise UserError(f"--output {output} is there already, and is no table of a stream: name another directory")


def _claim(output: Path, source: str, options: PredictOptions, class_names: list[str]) -> None:
    """Raise UserError if the directory holds predictions of another stream.

    A stream may go on with another checkpoint, if its classes are the same: they are counted by their numbers.
    """
    about = {"path": source, "window_seconds": options.window_seconds}
    file = output / STREAM_FILE
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            names_before = [str(name) for name in before.pop("class_names")]
        except (ValueError, KeyError, TypeError, AttributeError):
            before, names_before = None, []
        if before != about:
            raise UserError(
                f"--output {output} has predictions of another source or --window_seconds ({before}): name another "
                f"directory"
            )
        check_same_order(names_before, class_names, file=output, of=options.resume, remedy="name another --output")
    write_json_atomically(file, {**about, "class_names": class_names})
