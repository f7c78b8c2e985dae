"""Run every step: what unlabeled data adds to a long-tailed labelled set.

    longtail pipeline --dataset digits
    spark-submit spark_jobs/pipeline.py --dataset cifar10 --epochs 10

prepare -> stats -> [pretrain_rot, with --ssp] -> train -> gen_pseudolabels ->
train_semi -> comparison, in one Spark session, while a streaming query over the
metric events shows per-class accuracy. The same command again continues an
interrupted pipeline.
"""

import shlex
import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.next_command import next_command
from longtail.conf.options.live import MonitorOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.barrier import check_slots
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.comparison import print_comparison
from longtail.spark_jobs.steps.pipeline import run_pipeline

COMPARISON_FILE = "comparison.json"


def main(argv: Sequence[str]) -> None:
    options = parse_options(PipelineOptions, argv, prog="longtail pipeline")
    slots = options.world_size + 1  # the live query's tasks run beside the ranks
    check_can_be_written(options.runs_dir, option="--runs_dir")
    spark = spark_session("pipeline", options, slots=slots, networks=True)
    check_slots(spark, slots)
    base, semi = run_pipeline(spark, options)
    comparison = semi.run_dir / COMPARISON_FILE
    write_json_atomically(comparison, {"base": base.result, "semi": semi.result})
    print_comparison(base.result, semi.result)
    print(f"runs: {base.run_dir}, {semi.run_dir}\ncomparison: {comparison}")
    print(f"next: {next_command('monitor', MonitorOptions, options, once=True)}")
    print(f"  or: {shlex.join(['tensorboard', '--logdir', str(options.runs_dir)])}")


if __name__ == "__main__":
    run_job("pipeline", main, sys.argv[1:])
