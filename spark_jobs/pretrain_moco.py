"""Self-supervised pre-training by momentum contrast (MoCo v2), in a Spark barrier stage.

    longtail pretrain_moco --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/pretrain_moco.py --dataset cifar10 --imb_factor 0.01

Learns from the labelled part's images without their labels. The checkpoint is
the start of a supervised training: longtail train ... --pretrained_model CKPT
"""

import sys
from collections.abc import Sequence

from conf.arguments import data_flags, parse_options
from conf.schema import PretrainMocoOptions
from spark_jobs.cli import run_job
from spark_jobs.prepare import prepare
from spark_jobs.runs import print_result, train_run
from spark_jobs.session import spark_session


def main(argv: Sequence[str]) -> None:
    options = parse_options(PretrainMocoOptions, argv, prog="longtail pretrain_moco")
    spark = spark_session("pretrain_moco", options, slots=options.world_size)
    run = train_run(spark, options, set_dir=prepare(spark, options))
    print_result(run.result)
    print(
        f"run: {run.run_dir}\n"
        f"next: longtail train {data_flags(options)} -a {options.arch} --pretrained_model {run.checkpoint}"
    )


if __name__ == "__main__":
    run_job("pretrain_moco", main, sys.argv[1:])
