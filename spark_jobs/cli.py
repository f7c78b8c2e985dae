"""`longtail <job> ARGS`, and what every job does around its work.

    longtail train --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/train.py --dataset cifar10 --imb_factor 0.01

are the same. Exit status: 0 done, 1 failed, 2 bad input (or too few slots, no room on the disk), 130 interrupted.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence

from longtail.spark_jobs.cluster.failures import failure_line, user_message

JOBS = {
    "prepare": "build a long-tailed Parquet data set",
    "stats": "class-distribution statistics of a prepared set",
    "pretrain_rot": "self-supervised pre-training by rotation prediction",
    "pretrain_moco": "self-supervised pre-training by momentum contrast (MoCo v2)",
    "pretrain_simclr": "self-supervised pre-training by contrast within the batch (SimCLR)",
    "train": "supervised training in a Spark barrier stage; -e evaluates a checkpoint",
    "train_classifier": "another classifier on the frozen backbone of a checkpoint",
    "evaluate": "scores and features of a checkpoint, a partition at a time",
    "gen_pseudolabels": "label the unlabeled part with a trained classifier",
    "train_semi": "training on labels and pseudo-labels together",
    "monitor": "live per-class accuracy of running trainings",
    "relay": "send the metric events of running trainings to a Kafka topic",
    "dashboard": "the live page of running trainings, in a browser",
    "advise": "what unlabeled data and self-supervision are likely to add to your own labelled images",
    "experiment": "a grid of trials over seeds, with shared steps and a table of results",
    "report": "what an experiment's trials say, as a page and as Markdown",
    "theory": "the three theorems, checked by Monte-Carlo simulation",
    "package": "zip of the code, for spark-submit --py-files",
    "pipeline": "all of it, from the data set to the comparison",
}


def main() -> None:
    """Entry point of the `longtail` command."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        listing = "\n".join(f"  {job:<18}{what}" for job, what in JOBS.items())
        print(f"usage: longtail JOB [OPTIONS]; longtail JOB --help shows the options\n\n{listing}")
        sys.exit(0 if arguments else 2)
    job = arguments[0]
    if job not in JOBS:
        print(f"longtail: error: unknown job {job!r}: choose one of {', '.join(JOBS)}", file=sys.stderr)
        sys.exit(2)
    module = importlib.import_module(f"longtail.spark_jobs.{job}")
    run_job(job, module.main, arguments[1:])


def run_job(name: str, job_main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Run a job's main and exit with its status; an error becomes one line; --verbose shows its trace first."""
    try:
        job_main(argv)
    except KeyboardInterrupt:
        _exit(name, "interrupted", 130)
    except Exception as error:
        if "--verbose" in argv:
            traceback.print_exc()
        message = user_message(error)
        if message is not None:
            _exit(name, f"error: {message}", 2)
        _exit(name, f"failed: {failure_line(error)} (--verbose shows the trace)", 1)


def _exit(name: str, message: str, status: int) -> None:
    print(f"longtail {name}: {message}", file=sys.stderr)
    sys.exit(status)
