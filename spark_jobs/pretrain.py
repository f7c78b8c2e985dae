"""Self-supervised pre-training in a Spark barrier stage, by any of the methods in conf/options/pretraining.py.

    longtail pretrain_moco --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/pretrain.py pretrain_moco --dataset cifar10 --imb_factor 0.01

pretrain_rot and pretrain_simclr likewise. Learns from the images of the labelled part, without their labels; not from
the unlabeled part. The checkpoint is the start of a supervised training: longtail train ... --pretrained_model CKPT
"""

import sys
from collections.abc import Sequence

from longtail.conf.base.errors import UserError
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.pretraining import pretrain


def main(argv: Sequence[str]) -> None:
    """argv: the method, and its options."""
    if not argv or argv[0] not in PRETRAININGS:
        raise UserError(f"usage: spark-submit spark_jobs/pretrain.py {'|'.join(PRETRAININGS)} [OPTIONS]")
    pretrain(PRETRAININGS[argv[0]], argv[1:])


if __name__ == "__main__":
    run_job("pretrain", main, sys.argv[1:])
