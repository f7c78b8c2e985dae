"""Class-distribution statistics of a prepared set, or of the labels in any table.

    longtail stats --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/stats.py --dataset cifar10 --imb_factor 0.01
    longtail stats --labels TABLE --label_column label

Prepares the set unless it exists, counts its rows in one pass, reads the images in two more, prints a table, and writes
to DATA_DIR/statistics/NAME/: class_counts.parquet (one row per split and class), partitions.parquet (one row per split
and partition, with its label skew), summary.json (per split), images.json (channel means and standard deviations, exact
duplicates) and head_to_tail.png. With --pseudo_labels TABLE also pseudo_labels.parquet and .json: predicted classes,
quantiles of the confidence, and where labels are withheld precision and recall. --labels reads a single column of a
table, of any size.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.next_command import next_command
from longtail.conf.options.prepare import StatsOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.pseudo_label_statistics import pseudo_label_statistics
from longtail.spark_jobs.steps.stats import STATISTICS_DIRECTORY, stats, stats_of_labels


def main(argv: Sequence[str]) -> None:
    options = parse_options(StatsOptions, argv, prog="longtail stats")
    check_can_be_written(options.data_dir / STATISTICS_DIRECTORY, option="--data_dir")
    spark = spark_session("stats", options)
    if options.labels is not None:
        print(f"statistics: {stats_of_labels(spark, options, table=options.labels)}")
        return
    set_dir = prepare(spark, options)
    output_dir = stats(spark, options, set_dir=set_dir)
    if options.pseudo_labels is not None:
        pseudo_label_statistics(spark, options.pseudo_labels, set_dir=set_dir, output_dir=output_dir)
    print(f"statistics: {output_dir}\nnext: {next_command('train', TrainOptions, options)}")


if __name__ == "__main__":
    run_job("stats", main, sys.argv[1:])
