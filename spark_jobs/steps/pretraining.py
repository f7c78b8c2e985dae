"""A pre-training, from its command line to the checkpoint."""

from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.next_command import next_command
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.training import train_run, training_session


def pretrain(options_type: type[RunOptions], argv: Sequence[str]) -> None:
    """Pre-train on the labelled part's images, and print the command that starts a training from the checkpoint."""
    job = options_type.phase
    start = continued(options_type, given_values(options_type, argv, prog=f"longtail {job}"))
    options, spark = start.options, training_session(job, start.options)
    run = train_run(spark, options, set_dir=start.prepared(spark))
    print_result(run.result)
    command = next_command("train", TrainOptions, options, pretrained_model=run.checkpoint)
    print(f"run: {run.run_dir}\nnext: {command}")
