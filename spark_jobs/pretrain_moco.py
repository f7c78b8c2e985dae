"""Self-supervised pre-training by momentum contrast (MoCo v2), in a Spark barrier stage.

    longtail pretrain_moco --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/pretrain_moco.py --dataset cifar10 --imb_factor 0.01

Trains on the labelled part's images without their labels. A supervised training starts from the checkpoint:
longtail train ... --pretrained_model CKPT
"""

import sys
from collections.abc import Sequence

from longtail.conf.options.pretraining import PretrainMocoOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.pretraining import pretrain


def main(argv: Sequence[str]) -> None:
    pretrain(PretrainMocoOptions, argv)


if __name__ == "__main__":
    run_job("pretrain_moco", main, sys.argv[1:])
