"""The `longtail` command, and what every job does around its work.

    longtail train --dataset cifar10 --imb_factor 0.01
    spark-submit spark_jobs/train.py --dataset cifar10 --imb_factor 0.01

are equivalent. Exit status: 0 success, 1 failure, 2 invalid input (also too few slots, or a full disk), 130
interrupted.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import longtail
from longtail.conf.base.output import READER_GONE, ending_with_its_reader, reader_is_gone
from longtail.conf.base.shown_text import redacted
from longtail.conf.base.signals import sigterm_as_ctrl_c
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.spark_jobs.cluster.as_found import quiet_root_logger, session_as_found
from longtail.spark_jobs.cluster.failures import failure_line, user_message
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark

JOB_GROUPS = {
    "Start here": {
        "pipeline": "all steps, from the data set to the comparison",
    },
    "Data sets": {
        "prepare": "build a long-tailed Parquet data set",
        "stats": "class distribution of a data set, or of the labels in any table",
    },
    "Training": {
        "train": "supervised training in a Spark barrier stage; -e evaluates a checkpoint",
        "train_classifier": "retrain the classifier on the frozen backbone of a checkpoint",
        **{job: options.summary() for job, options in PRETRAININGS.items()},
        "evaluate": "scores and features of a checkpoint, computed partition by partition",
    },
    "New images": {
        "predict": "classes of any images by a checkpoint alone",
        "calibrate": "calibrate a checkpoint's probabilities on validation images",
        "export": "a checkpoint for programs without Longtail, or its model card",
    },
    "Unlabeled data": {
        "gen_pseudolabels": "label the unlabeled part with a trained classifier",
        "train_semi": "train on labels and pseudo-labels together",
        "advise": "estimate what unlabeled data and self-supervision would add to your own images",
    },
    "Running trainings": {
        "monitor": "live per-class accuracy in the terminal",
        "dashboard": "live page in a browser",
        "runs": "list, name, tag, hide, archive, delete, restore, export and import runs",
        "relay": "send metric events to a Kafka topic",
    },
    "Studies": {
        "experiment": "run a grid of trials over seeds, sharing common steps, and tabulate the results",
        "report": "summarise an experiment as a web page and as Markdown",
        "theory": "check the three theorems by Monte-Carlo simulation",
    },
    "Clusters": {
        "package": "zip the code for spark-submit --py-files",
    },
}
JOBS = {job: description for group in JOB_GROUPS.values() for job, description in group.items()}
"""Description by job; each job but the pre-trainings is a module of this package."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a job given its name and options; by default those of the process."""
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    if command == "help" and arguments:
        command, arguments = arguments[0], ["--help"]
    if command in ("", "help", "-h", "--help"):
        with ending_with_its_reader():
            print(_listing())
        sys.exit(0 if command else 2)
    if command == "--version":
        print(f"longtail {longtail.__version__}")
        return
    if command not in JOBS:
        hint = did_you_mean(command, JOBS)
        print(f"longtail: error: unknown job {command!r}{hint}; `longtail help` lists the jobs", file=sys.stderr)
        sys.exit(2)
    # Imported by run_job: some jobs import packages for seconds, and whoever presses Ctrl-C meanwhile sees no trace.
    run_job(command, lambda given: job_main(command)(given), arguments)


def job_main(job: str) -> Callable[[Sequence[str]], None]:
    """The main function of a job, which takes its arguments; all pre-trainings share a module."""
    if job in PRETRAININGS:
        pretrain = importlib.import_module("longtail.spark_jobs.pretrain")
        return lambda argv: pretrain.main([job, *argv])
    return importlib.import_module(f"longtail.spark_jobs.{job}").main


def run_job(name: str, job_main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Call job_main(argv); turn an exception into one line on standard error and the exit status.

    With --verbose in argv, a stack trace is printed before the line.
    """
    remove_jobs_from_path()
    with ending_with_its_reader():
        _run_job(name, job_main, argv)


def _run_job(name: str, job_main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    try:
        with ExitStack() as around:
            around.enter_context(sigterm_as_ctrl_c())
            around.enter_context(session_as_found())
            if "--verbose" not in argv:
                around.enter_context(quiet_root_logger())
            use_settings_of_spark()
            job_main(argv)
    except KeyboardInterrupt:
        _exit(name, "interrupted", 130)
    except Exception as error:  # noqa: BLE001 - users see one line, whatever went wrong
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            sys.exit(READER_GONE)
        if "--verbose" in argv:
            sys.stderr.write(redacted(traceback.format_exc()))
        message = user_message(error)
        if message is not None:
            _exit(name, f"error: {message}", 2)
        _exit(name, f"failed: {failure_line(error)} (--verbose shows the trace)", 1)


def remove_jobs_from_path() -> None:
    """Remove the jobs' directory from sys.path, where spark-submit puts the directory of the script that it starts.

    There, `import stats` in anybody's code would find the job of that name.
    """
    jobs = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != jobs]


def _listing() -> str:
    groups = [
        "\n".join([f"{title}:", *(f"  {job:<18}{description}" for job, description in jobs.items())])
        for title, jobs in JOB_GROUPS.items()
    ]
    usage = "usage: longtail JOB [OPTIONS]\n       longtail help [JOB]\n       longtail --version"
    return "\n\n".join([usage, *groups])


def _exit(name: str, message: str, status: int) -> None:
    print(f"longtail {name}: {message}", file=sys.stderr)
    sys.exit(status)
