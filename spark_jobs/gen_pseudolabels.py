"""Label the unlabeled part with a trained classifier, a partition at a time.

    longtail gen_pseudolabels --resume CKPT --output_dir DIR --output_filename NAME
    spark-submit spark_jobs/gen_pseudolabels.py --resume CKPT

The data set is the checkpoint's own unless options say otherwise. Writes a
Parquet table (id, pseudo_label, confidence) and NAME.quality.json, in which the
withheld labels tell how right it is. A name that ends in .pickle also gets the
published layout: a dict with extrapolated_targets and prediction_model.
"""

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from rich import get_console
from rich.table import Table

from conf.arguments import data_flags, given_values, resolve_options
from conf.errors import UserError
from conf.files import new_directory, write_atomically, write_json_atomically
from conf.schema import DataOptions, GenPseudolabelsOptions
from data.contract import CONFIDENCE, ID, IMAGE, PSEUDO_LABEL, PSEUDO_LABEL_SCHEMA, RAW, SPLIT, UNLABELED
from data.loader import images_of, load_pseudo_labels
from data.manifest import read_manifest
from spark_jobs.cli import run_job
from spark_jobs.labelling_events import tell_of_labelling
from spark_jobs.prepare import prepare
from spark_jobs.runs import DATA_OPTIONS, options_of_checkpoint
from spark_jobs.session import is_local, spark_session
from spark_jobs.transforms import read_prepared, with_label_quality
from streaming.tables import percent

PSEUDO_LABELS_DIRECTORY = "pseudo_labels"
DEFAULT_FILENAME = GenPseudolabelsOptions.model_fields["output_filename"].default


def main(argv: Sequence[str]) -> None:
    given = given_values(GenPseudolabelsOptions, argv, prog="longtail gen_pseudolabels")
    options = resolve_options(GenPseudolabelsOptions, {**options_of_checkpoint(given, DATA_OPTIONS), **given})
    spark = spark_session("gen_pseudolabels", options)
    table = gen_pseudolabels(spark, options, set_dir=prepare(spark, options))
    print(f"pseudo-labels: {table}\nnext: longtail train_semi {data_flags(options)} --pseudo_labels {table}")


def default_table(options: DataOptions) -> Path:
    """Where gen_pseudolabels writes and train_semi reads if nothing else is said."""
    return options.data_dir.absolute() / PSEUDO_LABELS_DIRECTORY / options.set_name() / DEFAULT_FILENAME


def gen_pseudolabels(spark: SparkSession, options: GenPseudolabelsOptions, *, set_dir: Path) -> Path:
    """Write the table; its path. Raises UserError for bad input."""
    manifest = read_manifest(set_dir)
    if not manifest.num_images(UNLABELED):
        raise UserError(f"{set_dir} has no unlabeled part: give --imb_factor_unlabel (1 for a balanced one)")
    output_dir = (options.output_dir or default_table(options).parent).absolute()
    table = (output_dir / options.output_filename).with_suffix(".parquet")
    prepared = read_prepared(spark, set_dir)
    images = prepared.where(prepared[SPLIT] == UNLABELED).select(ID, IMAGE)
    checkpoint = options.resume.absolute()
    labelled = with_pseudo_labels(
        images,
        checkpoint=checkpoint,
        image_shape=manifest.image_shape,
        encoding=manifest.encoding,
        batch_size=options.batch_size,
    )
    spark.sparkContext.setJobDescription(f"pseudo-labels from {checkpoint}")
    with new_directory(table, replace=True) as directory:
        labelled.write.mode("append").parquet(str(directory))
    quality = with_label_quality(spark.read.parquet(str(table)), prepared, num_classes=manifest.num_classes)
    _report_quality(quality, manifest.class_names, table)
    tell_of_labelling(spark, table, checkpoint=options.resume.absolute(), manifest=manifest)
    spark.sparkContext.setJobDescription(None)
    if options.output_filename.endswith(".pickle"):
        _write_published_layout(table, output_dir / options.output_filename, prediction_model=str(checkpoint))
    return table


def with_pseudo_labels(
    images: DataFrame, *, checkpoint: Path, image_shape: tuple[int, int, int], encoding: str = RAW, batch_size: int
) -> DataFrame:
    """id, image -> id, pseudo_label, confidence; each Python worker loads the checkpoint once."""
    context = images.sparkSession.sparkContext
    # Local tasks share the machine's cores; elsewhere a task uses the cores that Spark gave it.
    threads = max(1, (os.cpu_count() or 1) // context.defaultParallelism) if is_local(context.master) else None
    label = partial(
        _label_partition,
        checkpoint=checkpoint,
        image_shape=image_shape,
        encoding=encoding,
        batch_size=batch_size,
        threads=threads,
    )
    # A small set is one file, hence one partition: spread it over all slots.
    spread = images.repartition(context.defaultParallelism, ID)
    return spread.mapInArrow(label, f"{ID} long, {PSEUDO_LABEL} int, {CONFIDENCE} float")


def _label_partition(
    batches: Iterator[pa.RecordBatch],
    *,
    checkpoint: Path,
    image_shape: tuple[int, int, int],
    encoding: str,
    batch_size: int,
    threads: int | None,
) -> Iterator[pa.RecordBatch]:
    import torch  # only the tasks need it

    from training.inference import predict

    torch.set_num_threads(threads or TaskContext.get().cpus())
    for batch in batches:
        images = images_of(batch.column(IMAGE), image_shape, encoding)
        labels, confidences = predict(checkpoint, images, batch_size=batch_size)
        columns = [batch.column(ID), pa.array(labels), pa.array(confidences)]
        yield pa.RecordBatch.from_arrays(columns, schema=PSEUDO_LABEL_SCHEMA)


def _report_quality(quality: DataFrame, class_names: list[str], table: Path) -> None:
    """Print and keep precision and recall per class; null where there is nothing to divide by."""
    rows = [row.asDict() for row in quality.collect()]
    shown = Table(title="pseudo-labels against the withheld labels", title_justify="left")
    for heading in ("class", "unlabeled", "pseudo-labelled", "precision %", "recall %"):
        shown.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        row["class_name"] = class_names[row["class_id"]]
        row["precision"] = row["correct"] / row["predicted"] if row["predicted"] else None
        row["recall"] = row["correct"] / row["support"] if row["support"] else None
        shown.add_row(
            row["class_name"], str(row["support"]), str(row["predicted"]),
            percent(row["precision"]), percent(row["recall"]),
        )  # fmt: skip
    right, total = sum(row["correct"] for row in rows), sum(row["support"] for row in rows)
    write_json_atomically(
        table.with_suffix(".quality.json"), {"accuracy": right / total if total else None, "classes": rows}
    )
    console = get_console()
    console.print(shown)
    if total:
        console.print(f"{right} of {total} right: {percent(right / total)} %")
    else:
        console.print("nobody knows the classes of the unlabeled part")


def _write_published_layout(table: Path, path: Path, *, prediction_model: str) -> None:
    _, labels, _ = load_pseudo_labels(table)
    content = {"extrapolated_targets": labels.astype(np.int64), "prediction_model": prediction_model}
    write_atomically(path, lambda temporary: temporary.write_bytes(pickle.dumps(content)))


if __name__ == "__main__":
    run_job("gen_pseudolabels", main, sys.argv[1:])
