"""Estimate what unlabeled images and self-supervision are likely to add to labelled images of your own, and why.

    longtail advise --labelled DIR --unlabeled IMAGES
    spark-submit spark_jobs/advise.py --labelled DIR --unlabeled IMAGES

--labelled: a directory with one folder per class, a Parquet or Delta table, or a
prepared set (its own unlabeled part is used unless --unlabeled names another); or
name the data set by --dataset, as in the other jobs. Holds out a share of the
labelled images, trains a base classifier on the rest (or uses --resume CKPT), and
estimates from its predictions how imbalanced the unlabeled images are, how many of
them belong to the classes, and how accurate their pseudo-labels would be. Uses
neither test images nor withheld labels. Prints the answers, why, and the commands
to run; then every estimate with its interval. Writes advice.json, classes.parquet
(one row per class) and the files of `evaluate`.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values, options_for
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.advising.commands import commands_for
from longtail.spark_jobs.advising.diagnosis import diagnose
from longtail.spark_jobs.advising.diagnosis_output import ADVICE_FILE, CLASSES_FILE, print_diagnosis, write_diagnosis
from longtail.spark_jobs.advising.options import advise_options, check_output_can_be_written
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.training import train_run, training_session

ADVICE_DIRECTORY = "advice"


def main(argv: Sequence[str]) -> None:
    job = advise_options(given_values(AdviseOptions, argv, prog="longtail advise"))
    options = job.options
    check_output_can_be_written(options)
    spark = training_session("advise", options)
    set_dir = job.prepared(spark)
    checkpoint = options.resume or train_run(spark, options_for(TrainOptions, options), set_dir=set_dir).checkpoint
    output_dir = (options.output_dir or checkpoint.parent / ADVICE_DIRECTORY / set_dir.name).absolute()
    diagnosis = diagnose(spark, options, set_dir=set_dir, checkpoint=checkpoint, output_dir=output_dir)
    commands = commands_for(diagnosis, options, set_dir=set_dir)
    write_diagnosis(diagnosis, commands, output_dir)
    print_diagnosis(diagnosis, commands)
    print(f"advice: {output_dir / ADVICE_FILE}, {output_dir / CLASSES_FILE}")


if __name__ == "__main__":
    run_job("advise", main, sys.argv[1:])
