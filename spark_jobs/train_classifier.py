"""Retrain the classifier on the frozen backbone of a checkpoint (decoupled training), in a Spark barrier stage.

    longtail train_classifier --resume CKPT --method cRT
    spark-submit spark_jobs/train_classifier.py --resume CKPT --method cRT

The data set and the network are those of the checkpoint, unless options name others.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values, resolve_options
from longtail.conf.options.data import DATA_OPTIONS
from longtail.conf.options.training import TrainClassifierOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import options_of_checkpoint
from longtail.spark_jobs.steps.next_steps import use_of_checkpoint
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.training import train_run, training_session


def main(argv: Sequence[str]) -> None:
    given = given_values(TrainClassifierOptions, argv, prog="longtail train_classifier")
    of_checkpoint = options_of_checkpoint(given, DATA_OPTIONS | {"arch"})
    options = resolve_options(TrainClassifierOptions, {**of_checkpoint, **given})
    spark = training_session("train_classifier", options)
    run = train_run(spark, options, set_dir=prepare(spark, options))
    print_result(run.result)
    print(f"run: {run.run_dir}\nnext: {use_of_checkpoint(options, run.checkpoint)}")


if __name__ == "__main__":
    run_job("train_classifier", main, sys.argv[1:])
