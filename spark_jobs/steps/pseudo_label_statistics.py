"""What the unlabeled part was taken for: predicted classes, confidences, and where the truth is known how rightly."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich import get_console
from rich.table import Table

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.data.contract import CONFIDENCE, ID, PSEUDO_LABEL
from longtail.data.manifest import read_manifest
from longtail.data.storage import open_parquet, table_files
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.frames.label_statistics import QUANTILES, with_confidence_quantiles
from longtail.spark_jobs.frames.pseudo_label_quality import with_label_quality
from longtail.spark_jobs.frames.reading import read_parquet_or_delta, read_prepared

MAX_CLASSES_SHOWN = 100
SHOWN_QUANTILES = (QUANTILES[0], QUANTILES[2], QUANTILES[-1])


def _column(quantile: float) -> str:
    return f"confidence_{quantile:g}"


def pseudo_label_statistics(spark: SparkSession, table: Path, *, set_dir: Path, output_dir: Path) -> None:
    """Print a row per class, and write them as pseudo_labels.parquet and pseudo_labels.json.

    Raises UserError if the table is not one of gen_pseudolabels.
    """
    with open_parquet(table_files(table)[0]) as parquet:
        if missing := sorted({ID, PSEUDO_LABEL, CONFIDENCE} - set(parquet.schema_arrow.names)):
            raise UserError(f"{table} has no column {', '.join(missing)}: name a table of gen_pseudolabels")
    manifest = read_manifest(set_dir)
    pseudo_labels, num_classes = read_parquet_or_delta(spark, table), manifest.num_classes
    surely = with_confidence_quantiles(pseudo_labels, num_classes=num_classes).collect()
    rightly = with_label_quality(pseudo_labels, read_prepared(spark, set_dir), num_classes=num_classes).collect()
    truth_is_known = any(row.support for row in rightly)
    rows: list[dict[str, Any]] = []
    for confident, found in zip(surely, rightly, strict=True):
        rows.append(
            {
                "class_id": found.class_id,
                "class_name": manifest.class_names[found.class_id],
                "predicted": confident.predicted,
                "support": found.support if truth_is_known else None,
                "precision": found.correct / found.predicted if found.predicted and truth_is_known else None,
                "recall": found.correct / found.support if found.support else None,
                **dict(
                    zip(
                        map(_column, QUANTILES),
                        confident.confidence_quantiles or [None] * len(QUANTILES),
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
    console = get_console()
    if len(rows) > MAX_CLASSES_SHOWN:
        console.print(f"pseudo-labels: {len(rows)} classes, each in pseudo_labels.parquet", soft_wrap=True)
        return
    table = Table(title="pseudo-labels", title_justify="left")
    headings = [f"conf. at {100 * quantile:g} %" for quantile in SHOWN_QUANTILES]
    for heading in ("class", "predicted", *headings, "precision %", "recall %"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        quantiles = [row[_column(quantile)] for quantile in SHOWN_QUANTILES]
        confidences = ["-" if value is None else f"{value:.3f}" for value in quantiles]
        table.add_row(
            row["class_name"], str(row["predicted"]), *confidences, percent(row["precision"]), percent(row["recall"])
        )
    console.print(table)
