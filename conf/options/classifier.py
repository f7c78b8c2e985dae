"""Options that the jobs which use a trained classifier have in common."""

from typing import Any

from longtail.conf.options.base import MOST_THREADS, option

INFERENCE_BATCH_SIZE = 500
"""Divides the 2000 rows of Spark's Arrow batches (spark_jobs/cluster/session.py), so that no batch needs padding."""


def own_network() -> Any:
    """arch; each of these functions makes a field as option() does."""
    return option(
        None, "package.module:factory; needed only if the checkpoint's network is your own", group="Network",
        flags=("-a",), advanced=True,
    )  # fmt: skip


def own_loss() -> Any:
    """loss_type"""
    return option(
        None, "package.module:function; needed only if the checkpoint's loss is your own",
        group="Loss and re-balancing", advanced=True,
    )  # fmt: skip


def images_per_pass() -> Any:
    """batch_size"""
    return option(
        INFERENCE_BATCH_SIZE, "images per forward pass", group="Spark", flags=("-b",), advanced=True, gt=0, le=100_000
    )


def threads_option() -> Any:
    """threads"""
    return option(
        None, "CPU threads per task; default: an equal share of the cores", group="Spark", advanced=True, gt=0,
        le=MOST_THREADS,
    )  # fmt: skip
