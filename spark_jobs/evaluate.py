"""Scores of a checkpoint, and on demand its features, a partition at a time.

    longtail evaluate --resume CKPT --splits val,test
    spark-submit spark_jobs/evaluate.py --resume CKPT --features

The data set is the checkpoint's own unless options say otherwise. The scores are
those of `longtail train -e`, which needs no cluster for them; here the images may
be more than one process holds. Writes scores.json and predictions.parquet: a row
an image, with its label, what is said of it (data/contract.py,
PREDICTION_SCHEMA), its energy, its loss, and with --features its features.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values, resolve_options
from longtail.conf.options.data import DATA_OPTIONS
from longtail.conf.options.inference import EvaluateOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import options_of_checkpoint
from longtail.spark_jobs.steps.evaluation import evaluate
from longtail.spark_jobs.steps.prepare import prepare


def main(argv: Sequence[str]) -> None:
    given = given_values(EvaluateOptions, argv, prog="longtail evaluate")
    options = resolve_options(EvaluateOptions, {**options_of_checkpoint(given, DATA_OPTIONS), **given})
    spark = spark_session("evaluate", options)
    output_dir, result = evaluate(spark, options, set_dir=prepare(spark, options))
    if result["splits"]:
        print_result(result)
    print(f"evaluation: {output_dir}")


if __name__ == "__main__":
    run_job("evaluate", main, sys.argv[1:])
