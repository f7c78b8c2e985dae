"""Semi-supervised training in rounds of self-training, and the pseudo-labels that it starts from."""

from pathlib import Path

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.semi import TrainSemiOptions
from longtail.spark_jobs.steps.labelling import default_table, labels_of_run
from longtail.spark_jobs.steps.training import train_run
from longtail.training.run_directory import FinishedRun


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
