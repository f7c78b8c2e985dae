"""A client of a Spark Connect server, whose session has a time zone of its own: the jobs and functions that run there.

python -m tests.connect_process URL CHECKPOINT IMAGES

Prints how each command ended, as JSON.
"""

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

import longtail as lt
from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.spark_jobs.api.dataset import Dataset
from longtail.spark_jobs.cli import job_main, run_job

DATA = ("--imb_factor_unlabel", 0.5, "--unlabel_size_factor", 3)


def commands(checkpoint: str, images: str) -> list[tuple[object, ...]]:
    """Those that run; tests/test_connect.py compares what they write with what a classic session writes."""
    return [
        ("stats", *DATA),
        ("evaluate", "--resume", checkpoint, "--output_dir", "evaluation"),
        ("gen_pseudolabels", "--resume", checkpoint, "--dataset", "digits", *DATA),
        ("predict", "--resume", checkpoint, "--path", images, "--output", "predicted"),
    ]


def ending(job: str, *arguments: object) -> int:
    """The exit status."""
    try:
        run_job(job, job_main(job), [str(argument) for argument in arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def main() -> None:
    url, checkpoint, images = sys.argv[1:]
    spark = SparkSession.builder.remote(url).getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    before = dict(spark.conf.getAll)
    ended = {str(command[0]): ending(*command) for command in commands(checkpoint, images)}
    ended["train"] = ending("train", *DATA)
    options = resolve_options(PrepareOptions, {"imb_factor_unlabel": 0.5, "unlabel_size_factor": 3})
    digits = Dataset(next(Path("datasets/prepared").absolute().iterdir()), options)
    rows = digits.rows().where("split = 'test'")
    rows.createOrReplaceTempView("rows")
    shown = lt.load(checkpoint).predict(rows).groupBy("class_name").count().collect()
    ended["predicted by the API"] = sum(row["count"] for row in shown)
    ended["seen by the user's session"] = spark.sql("SELECT * FROM rows").count()
    ended["accuracy of the API"] = lt.evaluate(checkpoint, digits, splits="test", output_dir="api").scores["accuracy"]
    ended["active"] = SparkSession.getActiveSession() is spark and dict(spark.conf.getAll) == before
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
