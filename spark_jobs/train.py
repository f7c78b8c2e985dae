"""Supervised training on the labelled part, in a Spark barrier stage.

    longtail train --dataset cifar10 --imb_factor 0.01 --loss_type LDAM --train_rule DRW
    spark-submit spark_jobs/train.py --dataset cifar10 --imb_factor 0.01 --loss_type LDAM --train_rule DRW

Prepares the data set unless it exists. The same command resumes an interrupted training from its last checkpoint. With
-e --resume CKPT the checkpoint is evaluated instead; --dry_run shows the cost of the training.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.next_steps import use_of_checkpoint
from longtail.spark_jobs.steps.rank_evaluation import evaluate_in_ranks
from longtail.spark_jobs.steps.training import train_run, training_session
from longtail.spark_jobs.studies.training_cost import print_cost


def main(argv: Sequence[str]) -> None:
    job = continued(TrainOptions, given_values(TrainOptions, argv, prog="longtail train"))
    if job.options.dry_run:
        print_cost(job.options)
        return
    options, spark = job.options, training_session("train", job.options)
    set_dir = job.prepared(spark)
    if options.evaluate:
        print_result(evaluate_in_ranks(spark, options, set_dir=set_dir))
        return
    run = train_run(spark, options, set_dir=set_dir)
    print_result(run.result)
    print(f"run: {run.run_dir}\nnext: {use_of_checkpoint(options, run.checkpoint)}")


if __name__ == "__main__":
    run_job("train", main, sys.argv[1:])
