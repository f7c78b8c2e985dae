"""Classes of new images by a checkpoint, which is all that is needed, in Spark tasks.

    longtail predict --resume CKPT --path DIR|TABLE --output TABLE
    spark-submit spark_jobs/predict.py --resume CKPT --path DIR|TABLE --output TABLE
    longtail predict --resume CKPT --stream --bootstrap_servers HOST:9092 --topic IMAGES --output TABLE

Writes a Parquet table with a row for each image: its file's name relative to DIR, or the columns of TABLE but for the
images, then class_name, predicted (the class's number), confidence, margin, top5, model_version and bad_image, which
says why an image could not be decoded (--on_bad_image skip). --format delta makes it a Delta table as well. --stream
predicts what arrives, and tells when the predictions drift.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.shown_text import printable
from longtail.conf.options.inference import PredictOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.arriving import print_batch, print_window
from longtail.spark_jobs.display.class_shares import print_class_shares
from longtail.spark_jobs.steps.class_shares import ESTIMATED
from longtail.spark_jobs.steps.predict import check_output, predict
from longtail.spark_jobs.steps.predict_stream import predict_stream


def main(argv: Sequence[str]) -> None:
    options = parse_options(PredictOptions, argv, prog="longtail predict")
    if options.stream:
        predict_stream(options, on_batch=print_batch, on_window=print_window)
        print(f"predictions: {options.output}")
        return
    check_output(options)
    table = predict(spark_session("predict", options, networks=True), options)
    for name, reason in table.bad_images:
        print(printable(f"{name} has no prediction: {reason}"))
    if table.num_bad:
        print(f"{table.num_bad} of {table.num_images} images have no prediction: bad_image says why")
    if (shares := table.class_shares) is not None and shares.prior == ESTIMATED:
        print_class_shares(
            shares.class_names, shares.shares, low=shares.low, high=shares.high, num_images=shares.num_images
        )
    print(f"predictions of {table.num_images - table.num_bad} images: {table.path}")


if __name__ == "__main__":
    run_job("predict", main, sys.argv[1:])
