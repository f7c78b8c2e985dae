"""Build a long-tailed Parquet data set.

    longtail prepare --dataset cifar10 --imb_type exp --imb_factor 0.01
    spark-submit spark_jobs/prepare.py --dataset cifar10 --imb_type exp --imb_factor 0.01

Reads the source in its published layout, samples images per class, and writes DATA_DIR/prepared/NAME/: split=train,
split=test, with --val_fraction split=val, with --imb_factor_unlabel split=unlabeled, and a manifest. NAME depends on
every parameter. An existing set is reused, unless it was made from your own files and these have changed since.
--format delta makes the rows a Delta table, those of an existing set too.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.next_command import next_command
from longtail.conf.options.prepare import PrepareOptions, StatsOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.new_set import is_prepared
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir


def main(argv: Sequence[str]) -> None:
    options = parse_options(PrepareOptions, argv, prog="longtail prepare")
    if not is_prepared(wanted := prepared_set_dir(options)):
        check_can_be_written(wanted.parent, option="--data_dir")  # before Spark starts
    set_dir = prepare(spark_session("prepare", options), options, as_delta=options.format == "delta")
    print(f"prepared set: {set_dir}")
    print(f"next: {next_command('stats', StatsOptions, options)}")
    print(f"  or: {next_command('train', TrainOptions, options)}")


if __name__ == "__main__":
    run_job("prepare", main, sys.argv[1:])
