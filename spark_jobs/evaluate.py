"""Scores, predictions and on demand features of a checkpoint, computed by Spark tasks.

    longtail evaluate --resume CKPT --splits val,test
    spark-submit spark_jobs/evaluate.py --resume CKPT --features

The data set is that of the checkpoint, unless options name another. The scores equal those of `longtail train -e`,
which evaluates in the ranks of a training; here the images need not fit into one process. Writes scores.json, and
predictions.parquet with one row per image: its label, the prediction (data/contract.py, PREDICTION_SCHEMA), its energy
and its loss, with --features also its features.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.inference import EvaluateOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.evaluation import evaluate_checkpoint


def main(argv: Sequence[str]) -> None:
    given = given_values(EvaluateOptions, argv, prog="longtail evaluate")
    job = continued(EvaluateOptions, given)
    check_can_be_written(job.options.output_dir or job.options.resume.parent, option="--output_dir")
    spark = spark_session("evaluate", job.options)
    output_dir, result = evaluate_checkpoint(spark, job.options, set_dir=job.prepared(spark))
    if result["splits"]:
        print_result(result)
    print(f"evaluation: {output_dir}")


if __name__ == "__main__":
    run_job("evaluate", main, sys.argv[1:])
