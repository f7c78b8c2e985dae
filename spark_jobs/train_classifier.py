"""Retrain the classifier on the frozen backbone of a checkpoint (decoupled training), in a Spark barrier stage.

    longtail train_classifier --resume CKPT --method cRT
    spark-submit spark_jobs/train_classifier.py --resume CKPT --method cRT

The data set and the network are those of the checkpoint, unless options name others.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.next_steps import use_of_checkpoint
from longtail.spark_jobs.steps.training import train_run, training_session


def main(argv: Sequence[str]) -> None:
    given = given_values(TrainClassifierOptions, argv, prog="longtail train_classifier")
    job = continued(TrainClassifierOptions, given)
    options, spark = job.options, training_session("train_classifier", job.options)
    run = train_run(spark, options, set_dir=job.prepared(spark))
    print_result(run.result)
    print(f"run: {run.run_dir}\nnext: {use_of_checkpoint(options, run.checkpoint)}")


if __name__ == "__main__":
    run_job("train_classifier", main, sys.argv[1:])
