"""Self-supervised pre-training by contrast within the batch (SimCLR), in a Spark barrier stage.

    longtail pretrain_simclr --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/pretrain_simclr.py --dataset cifar10 --imb_factor 0.01

Trains on the labelled part's images without their labels. A supervised training starts from the checkpoint:
longtail train ... --pretrained_model CKPT
"""

import sys
from collections.abc import Sequence

from longtail.conf.options.pretraining import PretrainSimclrOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.pretraining import pretrain


def main(argv: Sequence[str]) -> None:
    pretrain(PretrainSimclrOptions, argv)


if __name__ == "__main__":
    run_job("pretrain_simclr", main, sys.argv[1:])
