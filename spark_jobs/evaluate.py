"""Scores, predictions and on demand features of a checkpoint, computed by Spark tasks.

    longtail evaluate --resume CKPT --splits val,test
    longtail evaluate --resume CKPT --path DIR|TABLE --label_column y
    spark-submit spark_jobs/evaluate.py --resume CKPT --features

The data set is that of the checkpoint, unless options name another. With --path and no --dataset, the labelled images
there are scored, and nothing but the checkpoint is needed; classes are matched by name. The scores equal those of
`longtail train -e`, which evaluates in the ranks of a training; here the images need not fit into one process. Writes
scores.json, and predictions.parquet with one row per image: its label, the prediction (data/contract.py), its energy
and its loss, with --features also its features.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values, resolve_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.inference import EvaluateImagesOptions, EvaluateOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.scores import print_result
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.evaluation import evaluate_checkpoint, evaluate_images, evaluation_dir


def main(argv: Sequence[str]) -> None:
    given = given_values(EvaluateOptions, argv, prog="longtail evaluate")
    if "path" in given and "dataset" not in given:
        _evaluate_images(resolve_options(EvaluateImagesOptions, given))
        return
    job = continued(EvaluateOptions, given)
    check_can_be_written(evaluation_dir(job.options), option="--output_dir")
    spark = spark_session("evaluate", job.options, networks=True)
    output_dir, result = evaluate_checkpoint(spark, job.options, set_dir=job.prepared(spark))
    if result["splits"]:
        print_result(result)
    print(f"evaluation: {output_dir}")


def _evaluate_images(options: EvaluateImagesOptions) -> None:
    check_can_be_written(evaluation_dir(options), option="--output_dir")
    output_dir, result = evaluate_images(spark_session("evaluate", options, networks=True), options)
    print_result(result)
    if result["num_bad_images"]:
        print(f"{result['num_bad_images']} images could not be decoded: predictions.parquet says why (bad_image)")
    print(f"evaluation: {output_dir}")


if __name__ == "__main__":
    run_job("evaluate", main, sys.argv[1:])
