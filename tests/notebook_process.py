"""A notebook's process: a Spark session with settings of its own, in which every job and API function runs.

python -m tests.notebook_process DIRECTORY

Prints as JSON, per step, what it changed in the process (`changed`) and how the step ended (`ended`).
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import sklearn  # noqa: F401 - at its import it sets environment variables, of OpenMP
from pyspark.sql import SparkSession

import longtail as lt
from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cli import job_main, run_job

EXPERIMENT = """
title: Two
seeds: [0]
options: {dataset: digits, epochs: 1, threads: 1, imb_factor_unlabel: 1, unlabel_size_factor: 1, val_fraction: 0.2}
axes:
  loss: {CE: {}}
"""
GRID = """
sweeps:
  - {name: offset, theorem: T2, repetitions: 50, parameters: {p_positive: 0.1, b: 4, sigma: 1, t_norm: 1, c: [-3, 3]}}
"""
OF_SET = {"imb_factor_unlabel": 1, "unlabel_size_factor": 1, "val_fraction": 0.2}
INTERRUPT_SECONDS = 4.0


def notebook_session() -> SparkSession:
    """With settings that longtail would choose otherwise."""
    settings = {
        "spark.driver.memory": "3g",
        "spark.scheduler.mode": "FIFO",
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "777",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[3]").appName("a notebook")
    spark = builder.config(map=settings).getOrCreate()
    context = spark.sparkContext
    context.setLogLevel("FATAL")
    context.setJobDescription("the notebook's own work")
    context.setLocalProperty("spark.scheduler.pool", "own")
    context.addJobTag("own")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    spark.createDataFrame([(1, "a")], "id INT, name STRING").createOrReplaceTempView("own_view")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    return spark


def state(spark: SparkSession) -> dict[str, object]:
    """What a job must leave as it found it."""
    context = spark.sparkContext
    jvm: Any = context._jvm
    root = logging.getLogger()
    active: Any = SparkSession.getActiveSession()
    classic = SparkSession._get_j_spark_session_class(jvm)
    return {
        "settings": dict(sorted(spark.conf.getAll.items())),
        "settings of the application": sorted(context.getConf().getAll()),
        "application": (context.applicationId, context.appName, context.master),
        "active session": (active is spark, classic.getActiveSession().get().equals(spark._jsparkSession)),
        "default session": classic.getDefaultSession().get().equals(spark._jsparkSession),
        "description, pool, tags": (
            context.getLocalProperty("spark.job.description"),
            context.getLocalProperty("spark.scheduler.pool"),
            sorted(context.getJobTags()),
        ),
        "log level of Spark": str(jvm.org.apache.logging.log4j.LogManager.getRootLogger().getLevel()),
        "root logger": (root.level, len(root.handlers), len(root.filters)),
        "environment": dict(os.environ),
        "directory and path": (os.getcwd(), list(sys.path)),
        "signals": (str(signal.getsignal(signal.SIGTERM)), str(signal.getsignal(signal.SIGINT))),
        "views": sorted(table.name for table in spark.catalog.listTables()),
        "queries": len(spark.streams.active),
        "cached": context._jsc.sc().getPersistentRDDs().size(),
        "threads of torch in workers": worker_threads(spark),
    }


def worker_threads(spark: SparkSession) -> list[int]:
    """torch's number of threads in every Python worker of the session."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import torch

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"threads": [torch.get_num_threads()]})

    rows = spark.range(0, 3, 1, numPartitions=3).mapInArrow(count, "threads long").collect()
    return sorted({row.threads for row in rows})


def run(job: str, *arguments: object) -> None:
    run_job(job, job_main(job), [str(argument) for argument in arguments])


def interrupted(action: Callable[[], object]) -> Callable[[], object]:
    """The action, with Ctrl-C after a while."""

    def run_and_interrupt() -> None:
        timer = threading.Timer(INTERRUPT_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            action()
        finally:
            timer.cancel()

    return run_and_interrupt


def checkpoint(pattern: str) -> Path:
    return next(Path("runs").glob(f"{pattern}/ckpt.pth.tar"))


def live_page() -> None:
    with lt.live("runs") as live, lt.dashboard(live, port=0):
        live.update().table("epochs")


def steps(spark: SparkSession) -> dict[str, Callable[[], object]]:
    """By name; each depends on what those before it have written."""
    unlabeled = [argument for name, value in OF_SET.items() for argument in (f"--{name}", value)]
    few = ("--epochs", 1, "--threads", 1)
    images = "datasets/prepared/*/rows"
    kept: dict[str, Any] = {}

    def keep(name: str, value: Any) -> None:
        kept[name] = value

    return {
        "prepare": lambda: run("prepare", *unlabeled),
        "stats": lambda: run("stats", *unlabeled),
        "pretrain_rot": lambda: run("pretrain_rot", *unlabeled, *few),
        "pretrain_moco": lambda: run("pretrain_moco", *unlabeled, *few),
        "pretrain_simclr": lambda: run("pretrain_simclr", *unlabeled, *few),
        "train": lambda: run("train", *unlabeled, *few, "--world_size", 2),
        "train -e": lambda: run("train", *unlabeled, "-e", "--resume", checkpoint("*-train-*")),
        "train_classifier": lambda: run("train_classifier", "--resume", checkpoint("*-train-*"), "--epochs", 1),
        "evaluate": lambda: run("evaluate", "--resume", checkpoint("*-train-*"), "--features"),
        "predict": lambda: run(
            "predict", "--resume", checkpoint("*-train-*"), "--path", next(Path().glob(images)), "--output", "predicted"
        ),
        "export": lambda: run("export", "--resume", checkpoint("*-train-*"), "--to", "digits.md"),
        "gen_pseudolabels": lambda: run(
            "gen_pseudolabels", "--resume", checkpoint("*-train-*"), "--align", 1, "--format", "delta"
        ),
        "train_semi": lambda: run("train_semi", *unlabeled, *few),
        "calibrate": lambda: run("calibrate", "--resume", checkpoint("*-train-*")),
        "advise": lambda: run("advise", "--resume", checkpoint("*-train-*")),
        "monitor": lambda: run("monitor", "--once"),
        "runs": lambda: run("runs", "list"),
        "experiment": lambda: run("experiment", "two.yaml"),
        "report": lambda: run("report", "two"),
        "lt.trials": lambda: lt.trials("results/reports/two/trials.parquet"),
        "theory": lambda: run("theory", "--grid", "grid.yaml"),
        "package": lambda: run("package"),
        "pipeline": lambda: run("pipeline", *unlabeled, *few, "--exp_str", "pipeline"),
        "relay without the connector": lambda: run("relay", "--bootstrap_servers", "127.0.0.1:9"),
        "too few slots": lambda: run("train", *unlabeled, "--world_size", 9),
        "another master": lambda: run("train", *unlabeled, "--master", "local[9]"),
        "a failing training": lambda: run("train", *unlabeled, *few, "--lr", 1e30, "--exp_str", "failing"),
        "an interrupted training": interrupted(
            lambda: run("train", *unlabeled, "--epochs", 5000, "--exp_str", "interrupted")
        ),
        "an interrupted monitor": interrupted(lambda: run("monitor")),
        "an interrupted dashboard": interrupted(lambda: run("dashboard", "--port", 0)),
        "lt.prepare": lambda: keep(
            "set", lt.prepare("digits", imb_factor_unlabel=1, unlabel_size_factor=1, val_fraction=0.2)
        ),
        "lt.prepare of rows": lambda: lt.prepare(
            kept["set"].rows().selectExpr("coalesce(label, 0) label", "image", "8 height", "8 width", "1 channels"),
            imb_type="natural",
            test_fraction=0.2,
        ),
        "Dataset.rows in a view": lambda: (
            kept["set"].rows().createOrReplaceTempView("rows"),
            spark.sql("SELECT count(*) FROM rows").collect(),
            spark.catalog.dropTempView("rows"),
        ),
        "lt.pretrain": lambda: lt.pretrain(kept["set"], "rot", epochs=1, threads=1, exp_str="api"),
        "lt.train": lambda: keep("run", lt.train(kept["set"], epochs=1, threads=1, exp_str="api")),
        "lt.pseudo_labels": lambda: keep("table", lt.pseudo_labels(kept["run"], kept["set"])),
        "lt.label_quality": lambda: lt.label_quality(kept["table"]),
        "lt.train_semi": lambda: lt.train_semi(
            kept["set"], pseudo_labels=kept["table"], epochs=1, threads=1, exp_str="api"
        ),
        "lt.live and lt.dashboard": live_page,
        "lt.evaluate": lambda: lt.evaluate(kept["run"], kept["set"], splits="test"),
        "lt.calibrate": lambda: lt.calibrate(kept["run"], kept["set"]),
        "lt.load and predict": lambda: lt.load(kept["run"].checkpoint).predict(kept["set"].rows().limit(9)).collect(),
        "Model.register": lambda: lt.load(kept["run"].checkpoint).register(spark, "classify"),
        "lt.train of a wrong option": lambda: lt.train(kept["set"], epochs=-1),
        "an interrupted lt.train": interrupted(lambda: lt.train(kept["set"], epochs=5000, exp_str="again")),
    }


def main() -> None:
    os.chdir(sys.argv[1])
    Path("two.yaml").write_text(EXPERIMENT)
    Path("grid.yaml").write_text(GRID)
    spark = notebook_session()
    told = {}
    before = state(spark)
    for name, step in steps(spark).items():
        started, ended = time.monotonic(), "well"
        try:
            step()
        except SystemExit as ending:
            ended = f"status {ending.code}"
        except (UserError, KeyboardInterrupt) as error:
            ended = type(error).__name__
        seconds = time.monotonic() - started
        after = state(spark)
        changed = [key for key in before if before[key] != after[key]]
        told[name] = {"ended": ended, "changed": changed}
        print(f"step {name}: {ended} after {seconds:.1f} s, {changed}", file=sys.stderr, flush=True)
        before = after
    Path("told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
