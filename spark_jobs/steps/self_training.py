"""Rounds of semi-supervised training, each on the pseudo-labels of the one before."""

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.next_command import next_command
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.spark_jobs.steps.labelling import default_table, labels_of_run
from longtail.spark_jobs.steps.training import train_run
from longtail.training.run_directory import FinishedRun


def train_rounds(
    spark: SparkSession,
    options: TrainSemiOptions,
    *,
    set_dir: Location,
    pseudo_labels: Location | None,
    show_progress: bool = True,
) -> FinishedRun:
    """Train options.rounds networks, each from scratch on the pseudo-labels of the one before; return the last run."""
    run = train_run(spark, options, set_dir=set_dir, pseudo_labels=pseudo_labels, show_progress=show_progress)
    for this_round in range(2, options.rounds + 1):
        print(f"round {this_round}: pseudo-labels from {run.run_dir}")
        table = labels_of_run(spark, options, run, set_dir=set_dir)
        from_scratch = options.model_copy(update={"resume": None})
        run = train_run(spark, from_scratch, set_dir=set_dir, pseudo_labels=table, show_progress=show_progress)
    return run


def pseudo_label_table(options: TrainSemiOptions) -> Location:
    """The table given by --pseudo_labels, or the default one. Raises UserError if it does not exist."""
    table = options.pseudo_labels or default_table(options)
    if not table.exists():
        is_soft = options.pseudo_label_type == "soft"
        command = next_command(
            "gen_pseudolabels", GenPseudolabelsOptions, options, resume="CKPT", probabilities=is_soft
        )
        raise UserError(
            f"there are no pseudo-labels {table}: write them with `{command}`, with a checkpoint of `longtail train`"
        )
    return table
