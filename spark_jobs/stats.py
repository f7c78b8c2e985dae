"""Class-distribution statistics of a prepared set, or of the labels of any table.

    longtail stats --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/stats.py --dataset cifar10 --imb_factor 0.01
    longtail stats --labels TABLE --label_column label

Counts the rows on disk (one pass; another two look at the images), prints a
table, and writes
DATA_DIR/statistics/NAME/: class_counts.parquet (a row per split and class),
partitions.parquet (a row per split and partition: how its labels differ from
all), summary.json (a split as a whole), images.json (channel mean and standard
deviation, exact duplicates) and head_to_tail.png. Prepares the set if it is not
there. With --pseudo_labels TABLE also pseudo_labels.parquet and .json: what the
unlabeled part was taken for, how surely, and where the truth is known how
rightly. --labels reads nothing but one column of a table, of any size.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.next_command import next_command
from longtail.conf.options.data import StatsOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.pseudo_label_statistics import pseudo_label_statistics
from longtail.spark_jobs.steps.stats import stats, stats_of_labels


def main(argv: Sequence[str]) -> None:
    options = parse_options(StatsOptions, argv, prog="longtail stats")
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
