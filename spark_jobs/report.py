"""Report what the trials of an experiment show, as a self-contained page and as Markdown.

    longtail report digits_small
    spark-submit spark_jobs/report.py digits_small

Reads the results table that `longtail experiment` writes; the experiment may be
unfinished. Writes OUTPUT_DIR/NAME/report.html (figures embedded), report.md and the
figures as PNG: in words what the experiment says about each axis, paired differences
with bootstrap intervals, which differences its seeds can show, scores per combination
of levels (also as scores.csv and scores.tex), the paper's figures beside ours, curves
over numeric axes, classes, confusion, t-SNE maps of the combinations listed under
`shown`, and every trial. Beside them it keeps trials.parquet, from which --trials
makes the report anew. OUTPUT_DIR/index.html compares all experiments that have a
report there. Starts no Spark: a trial is one row, and thousands of rows fit in memory.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.studies import ReportOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.studies.feature_maps import read_maps
from longtail.spark_jobs.studies.findings import findings
from longtail.spark_jobs.studies.kept_trials import kept_trials
from longtail.spark_jobs.studies.overview import write_overview
from longtail.spark_jobs.studies.report import write_report
from longtail.spark_jobs.studies.results import read_definition, read_trials


def main(argv: Sequence[str]) -> None:
    options = parse_options(ReportOptions, argv, prog="longtail report")
    output_dir = options.output_dir or options.results_dir / "reports"
    check_can_be_written(output_dir, option="--output_dir")
    if options.trials is not None:
        experiment, trials = kept_trials(options.trials)
    else:
        experiment = read_definition(options.results_dir, options.experiment)
        trials = read_trials(options.results_dir, options.experiment)
    found = {row["trial"]: row for row in trials}
    rows = [found[trial.trial_id] for trial in experiment.trials() if trial.trial_id in found]
    if not rows:
        raise UserError(f"no trial of {options.experiment} is finished: run its `longtail experiment` command again")
    maps = read_maps(options.results_dir, options.experiment, rows)
    directory = write_report(experiment, rows, output_dir / options.experiment, maps=maps)
    overview = write_overview(output_dir)
    print(*findings(experiment, rows), sep="\n")
    print(f"report: {directory / 'report.html'}\nall reports: {overview}")


if __name__ == "__main__":
    run_job("report", main, sys.argv[1:])
