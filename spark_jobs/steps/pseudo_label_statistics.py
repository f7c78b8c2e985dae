"""Statistics of pseudo-labels: predicted classes, confidences, and where labels are withheld precision and recall."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich.table import Table

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import CONFIDENCE, ID, PSEUDO_LABEL
from longtail.data.manifest import read_manifest
from longtail.data.pseudo_label_table import check_table_fits
from longtail.data.storage import open_parquet, table_files
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.frames.label_statistics import QUANTILES, with_confidence_quantiles
from longtail.spark_jobs.frames.pseudo_label_quality import with_label_quality
from longtail.spark_jobs.frames.reading import read_parquet_or_delta, read_prepared

MAX_CLASSES_SHOWN = 100
SHOWN_QUANTILES = (QUANTILES[0], QUANTILES[2], QUANTILES[-1])


def _column(quantile: float) -> str:
    return f"confidence_{quantile:g}"


def pseudo_label_statistics(spark: SparkSession, table: Location, *, set_dir: Location, output_dir: Location) -> None:
    """Print one row per class, and write them as pseudo_labels.parquet and pseudo_labels.json.

    Raises UserError if gen_pseudolabels did not write the table.
    """
    with open_parquet(table_files(table)[0]) as parquet:
        if missing := sorted({ID, PSEUDO_LABEL, CONFIDENCE} - set(parquet.schema_arrow.names)):
            raise UserError(f"{table} has no column {', '.join(missing)}: name a table of gen_pseudolabels")
    manifest = read_manifest(set_dir)
    check_table_fits(table, manifest, set_dir=set_dir)
    pseudo_labels, num_classes = read_parquet_or_delta(spark, table), manifest.num_classes
    with Activity(spark, "reading the pseudo-labels"):
        confidences = with_confidence_quantiles(pseudo_labels, num_classes=num_classes).collect()
        prepared = read_prepared(spark, set_dir)
        qualities = with_label_quality(pseudo_labels, prepared, class_counts=manifest.counts[TRAIN]).collect()
    labels_are_known = any(row.support for row in qualities)
    rows: list[dict[str, Any]] = []
    for confidence, quality in zip(confidences, qualities, strict=True):
        rows.append(
            {
                "class_id": quality.class_id,
                "class_name": manifest.class_names[quality.class_id],
                "predicted": confidence.predicted,
                "support": quality.support if labels_are_known else None,
                "precision": quality.correct / quality.judged if quality.judged else None,
                "recall": quality.correct / quality.support if quality.support else None,
                **dict(
                    zip(
                        map(_column, QUANTILES),
                        confidence.confidence_quantiles or [None] * len(QUANTILES),
                        strict=True,
                    )
                ),
            }
        )
    write_atomically(
        output_dir / "pseudo_labels.parquet", lambda file: pq.write_table(pa.Table.from_pylist(rows), file)
    )
    write_json_atomically(output_dir / "pseudo_labels.json", rows)
    _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    terminal = console()
    if len(rows) > MAX_CLASSES_SHOWN:
        terminal.print(f"pseudo-labels: {len(rows)} classes, each in pseudo_labels.parquet", soft_wrap=True)
        return
    table = Table(title="pseudo-labels", title_justify="left")
    headings = [f"conf. at {100 * quantile:g} %" for quantile in SHOWN_QUANTILES]
    for heading in ("class", "predicted", *headings, "precision %", "recall %"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        quantiles = [row[_column(quantile)] for quantile in SHOWN_QUANTILES]
        shown = ["-" if value is None else f"{value:.3f}" for value in quantiles]
        table.add_row(
            row["class_name"], str(row["predicted"]), *shown, percent(row["precision"]), percent(row["recall"])
        )
    terminal.print(table)
