"""Train on the labelled and the pseudo-labelled part together, in a Spark barrier stage.

    longtail train_semi --dataset cifar10 --imb_factor 0.01 --imb_factor_unlabel 0.01
    spark-submit spark_jobs/train_semi.py --dataset cifar10 --imb_factor 0.01 --imb_factor_unlabel 0.01

Needs the table that gen_pseudolabels wrote for the same set, or pseudo-labels for its unlabeled part in the published
layout (--pseudo_labels FILE.pickle). With --rounds N, the trained network labels the unlabeled part again and another
one is trained on that, N - 1 times; each round is a run of its own. --semi_method fixmatch needs no pseudo-labels.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.options.semi import TrainSemiOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.next_steps import use_of_checkpoint
from longtail.spark_jobs.steps.rank_evaluation import evaluate_in_ranks
from longtail.spark_jobs.steps.self_training import pseudo_label_table, train_rounds
from longtail.spark_jobs.steps.training import training_session
from longtail.spark_jobs.studies.training_cost import print_cost


def main(argv: Sequence[str]) -> None:
    job = continued(TrainSemiOptions, given_values(TrainSemiOptions, argv, prog="longtail train_semi"))
    options = job.options
    if options.dry_run:
        print_cost(options)
        return
    table = pseudo_label_table(options) if options.needs_pseudo_labels else None
    spark = training_session("train_semi", options)
    set_dir = job.prepared(spark)
    if options.evaluate:
        print_result(evaluate_in_ranks(spark, options, set_dir=set_dir))
        return
    run = train_rounds(spark, options, set_dir=set_dir, pseudo_labels=table)
    print_result(run.result)
    print(f"run: {run.run_dir}\nnext: {use_of_checkpoint(options, run.checkpoint)}")


if __name__ == "__main__":
    run_job("train_semi", main, sys.argv[1:])
