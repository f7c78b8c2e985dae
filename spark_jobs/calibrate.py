"""Calibrate the probabilities of a checkpoint: a temperature and a bias for each class, fitted to validation images.

    longtail calibrate --resume CKPT [--output FILE]
    longtail calibrate --resume CKPT --path DIR|TABLE
    spark-submit spark_jobs/calibrate.py --resume CKPT

The images are those that prepare held out (--val_fraction), or labelled ones of --path, matched by class name; never
those of the test set. Writes a new checkpoint, by default calibrated.pth.tar beside CKPT, which predict, evaluate and
export use as any other, and a reliability diagram beside it (-reliability.png).
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values, resolve_options
from longtail.conf.options.calibrate import CalibrateImagesOptions, CalibrateOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.reliability import draw_reliability, print_calibration
from longtail.spark_jobs.steps.calibration import calibrate_by_images, calibrate_checkpoint, check_calibrated_output
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.next_steps import use_of_calibrated


def main(argv: Sequence[str]) -> None:
    given = given_values(CalibrateOptions, argv, prog="longtail calibrate")
    if of_images := "path" in given and "dataset" not in given:
        options = resolve_options(CalibrateImagesOptions, given)
        check_calibrated_output(options)
        found = calibrate_by_images(spark_session("calibrate", options, networks=True), options)
    else:
        job = continued(CalibrateOptions, given)
        check_calibrated_output(job.options)
        spark = spark_session("calibrate", job.options, networks=True)
        found = calibrate_checkpoint(spark, job.options, set_dir=job.prepared(spark))
    diagram = found.path.with_name(f"{found.path.name.removesuffix('.pth.tar')}-reliability.png")
    draw_reliability(found.calibration, diagram, title=found.path.parent.name)
    print_calibration(found.calibration)
    print(f"reliability diagram: {diagram}")
    print(f"calibrated checkpoint: {found.path}\nnext: {use_of_calibrated(given, found.path, of_images=of_images)}")


if __name__ == "__main__":
    run_job("calibrate", main, sys.argv[1:])
