"""Predicts images that arrive, by Structured Streaming: each is in the table once, whenever the process is killed.

A micro-batch is the directory OUTPUT/batch=N, which appears whole and replaces itself if the batch is processed again.
What has been read is in Spark's checkpoint, OUTPUT/_checkpoint.
"""

import datetime
import json
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, write_json_atomically
from longtail.conf.base.locations import spark_uri
from longtail.conf.options.inference import PredictOptions
from longtail.data.class_names import check_same_order
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.frames.arriving_images import arriving_images
from longtail.spark_jobs.frames.named_predictions import Additions, with_named_predictions
from longtail.spark_jobs.frames.predictions import classifier_alone
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.class_shares import with_prior
from longtail.spark_jobs.steps.prediction_windows import PredictionWindows, read_reference
from longtail.streaming.live.trigger import with_trigger

CHECKPOINT_DIRECTORY = "_checkpoint"
STREAM_FILE = "_stream.json"
"""In the table's directory: what it is of, so that a restart with other options does not mix two streams."""


def predict_stream(
    spark: SparkSession,
    options: PredictOptions,
    *,
    on_batch: Callable[[int], None],
    on_window: Callable[[datetime.datetime, list[str]], None],
) -> None:
    """Predict what arrives until interrupted; with --once what is there.

    on_batch: called with the number of images of each micro-batch
    on_window: called for each window that has ended, with what differs from the reference

    Raises UserError for invalid input.
    """
    assert isinstance(options.output, Path), "the options are checked"
    output = options.output.absolute()
    classifier, card = classifier_alone(
        options.resume,
        batch_size=options.batch_size,
        threads=options.threads,
        logit_adjustment=options.logit_adjustment,
        arch=options.arch,
    )
    classifier, _ = with_prior(classifier, card, options.prior, _no_probabilities, beside=output.parent)
    names = card.class_names
    reference = None if options.reference is None else read_reference(options.reference, names, of=options.resume)
    arriving, images, kept = arriving_images(spark, options.path, image=options.image_column)
    _claim(output, options, names)
    windows = PredictionWindows(output, names, seconds=options.window_seconds, reference=reference)
    additions = Additions(probabilities=options.probabilities, features=options.features)

    def write(batch: DataFrame, batch_id: int) -> None:
        table = output / f"batch={batch_id}"
        predicted = with_named_predictions(
            batch, classifier, names, images,
            on_bad_image=options.on_bad_image, kept=kept, additions=additions,
        )  # fmt: skip
        with described(batch.sparkSession, f"predict {options.path}"), new_directory(table, replace=True) as directory:
            write_parquet(predicted, directory)
        on_batch(windows.add(batch_id, table))
        for start, lines in windows.judge():
            on_window(start, lines)

    writer = arriving.writeStream.foreachBatch(write).option(
        "checkpointLocation", spark_uri(output / CHECKPOINT_DIRECTORY)
    )
    query = with_trigger(writer, None if options.once else options.trigger).start()
    try:
        query.awaitTermination()
    finally:
        query.stop()
    for start, lines in windows.judge(is_over=True):
        on_window(start, lines)


def _no_probabilities(classifier: object) -> DataFrame:
    raise AssertionError("the options refuse class shares that are estimated from all images")


def _claim(output: Path, options: PredictOptions, class_names: list[str]) -> None:
    """Raise UserError if the directory holds something else than predictions of this stream.

    A stream may go on with another checkpoint, if its classes are the same: they are counted by their numbers.
    """
    about = {"path": str(options.path), "window_seconds": options.window_seconds}
    file = output / STREAM_FILE
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            names_before = [str(name) for name in before.pop("class_names")]
        except (ValueError, KeyError, TypeError, AttributeError):
            before, names_before = None, []
        if before != about:
            raise UserError(
                f"--output {output} has predictions of another --path or --window_seconds ({before}): name another "
                f"directory"
            )
        check_same_order(names_before, class_names, file=output, of=options.resume, remedy="name another --output")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is there already, and is no table of a stream: name another directory")
    write_json_atomically(file, {**about, "class_names": class_names})
