"""Label the unlabeled part with a trained classifier, in Spark tasks.

    longtail gen_pseudolabels --resume CKPT --output_dir DIR --output_filename NAME
    spark-submit spark_jobs/gen_pseudolabels.py --resume CKPT

The data set is that of the checkpoint, unless options name another. Writes a Parquet table (id, pseudo_label,
confidence, margin, model_version, round; with --probabilities, those of all classes, too) and NAME.quality.json with
its precision and recall by the withheld labels. --align, --threshold and --top_k, in this order, select the rows;
without them the table has every image. --format delta makes it a Delta table as well. With a NAME that ends in .pickle,
the published layout is written too: a dict with extrapolated_targets and prediction_model.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import given_values
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.label_quality import are_too_often_wrong, show_quality
from longtail.spark_jobs.steps.labelling import gen_pseudolabels
from longtail.spark_jobs.steps.next_steps import training_on_pseudo_labels
from longtail.spark_jobs.steps.published_layout import check_source_is_named


def main(argv: Sequence[str]) -> None:
    given = given_values(GenPseudolabelsOptions, argv, prog="longtail gen_pseudolabels")
    job = continued(GenPseudolabelsOptions, given)
    check_source_is_named(job.options, job.set_dir)
    check_can_be_written(job.options.output_dir or job.options.data_dir, option="--output_dir")
    options, spark = job.options, spark_session("gen_pseudolabels", job.options, networks=True)
    set_dir = job.prepared(spark)
    table = gen_pseudolabels(spark, options, set_dir=set_dir)
    show_quality(table)
    command = training_on_pseudo_labels(options, checkpoint=options.resume, table=table, set_dir=set_dir)
    print(f"pseudo-labels: {table}\n{'to train on them anyway' if are_too_often_wrong(table) else 'next'}: {command}")


if __name__ == "__main__":
    run_job("gen_pseudolabels", main, sys.argv[1:])
