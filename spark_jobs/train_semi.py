"""Training on the labelled and the pseudo-labelled part together, in a Spark barrier stage.

    longtail train_semi --dataset cifar10 --imb_factor 0.01 --imb_factor_unlabel 0.01
    spark-submit spark_jobs/train_semi.py --dataset cifar10 --imb_factor 0.01 --imb_factor_unlabel 0.01

Needs the table that gen_pseudolabels wrote for the same set, or pseudo-labels
for its unlabeled part in the published layout (--pseudo_labels FILE.pickle).
With --rounds N the network that comes out labels the unlabeled part again and
another one is trained on that, N - 1 times; each round is a run of its own.
With --semi_method fixmatch nothing has to be labelled before.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.semi import TrainSemiOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.gen_pseudolabels import default_table, labels_of_run
from longtail.spark_jobs.prepare import prepare
from longtail.spark_jobs.steps.training import FinishedRun, evaluate_run, print_result, train_run, training_session


def main(argv: Sequence[str]) -> None:
    options = parse_options(TrainSemiOptions, argv, prog="longtail train_semi")
    table = pseudo_label_table(options) if options.needs_pseudo_labels else None
    spark = training_session("train_semi", options)
    set_dir = prepare(spark, options)
    if options.evaluate:
        print_result(evaluate_run(spark, options, set_dir=set_dir, pseudo_labels=table))
        return
    run = train_rounds(spark, options, set_dir=set_dir, pseudo_labels=table)
    print_result(run.result)
    print(f"run: {run.run_dir}\nnext: longtail monitor --runs_dir {options.runs_dir} --once")


def train_rounds(
    spark: SparkSession,
    options: TrainSemiOptions,
    *,
    set_dir: Path,
    pseudo_labels: Path | None,
    show_progress: bool = True,
) -> FinishedRun:
    """The run of the last of --rounds; each starts anew, on the pseudo-labels of the network of the one before."""
    run = train_run(spark, options, set_dir=set_dir, pseudo_labels=pseudo_labels, show_progress=show_progress)
    for this_round in range(2, options.rounds + 1):
        print(f"round {this_round}: pseudo-labels by {run.run_dir}")
        table = labels_of_run(spark, options, run, set_dir=set_dir)
        anew = options.model_copy(update={"resume": None})
        run = train_run(spark, anew, set_dir=set_dir, pseudo_labels=table, show_progress=show_progress)
    return run


def pseudo_label_table(options: TrainSemiOptions) -> Path:
    """What --pseudo_labels names, or the default table. Raises UserError if it is not there."""
    table = options.pseudo_labels or default_table(options)
    if not table.exists():
        asked = options.imb_factor_unlabel
        unlabeled = f"--unlabeled {options.unlabeled}" if asked is None else f"--imb_factor_unlabel {asked:g}"
        raise UserError(
            f"there are no pseudo-labels {table}: write them with `longtail gen_pseudolabels --resume CKPT "
            f"{unlabeled}`, CKPT being a checkpoint of `longtail train`"
        )
    return table


if __name__ == "__main__":
    run_job("train_semi", main, sys.argv[1:])
