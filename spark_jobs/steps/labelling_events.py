"""Metric events of pseudo-labels: their number and confidence per class, among the events of the run that labelled."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_json_atomically
from longtail.conf.base.locations import Location, location
from longtail.conf.base.store_path import StorePath
from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import CONFIDENCE, PSEUDO_LABEL, ROUND
from longtail.data.manifest import Manifest
from longtail.spark_jobs.frames.reading import read_parquet_or_delta
from longtail.streaming.events.schema import RUN_NAME, PseudoLabelEvent
from longtail.streaming.events.writer import EVENTS_DIRECTORY, write_pseudo_label_events

PHASE = "gen_pseudolabels"
QUANTILES = (0.1, 0.5, 0.9)


def write_labelling_events(
    spark: SparkSession,
    table: Location,
    *,
    checkpoint: Location,
    manifest: Manifest,
    quality: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the events of a table of pseudo-labels, and next to the table its origin: the run that labelled.

    quality: rows of with_label_quality, one per class

    A checkpoint outside a runs directory belongs to no run that is monitored: then there are no events.
    """
    run = checkpoint.parent.name
    previous_run = _previous_run(checkpoint)
    write_json_atomically(_origin_file(table), {"run": run})
    events_dir = checkpoint.parent.parent / EVENTS_DIRECTORY
    if not events_dir.is_dir():
        return
    pseudo_labels = read_parquet_or_delta(spark, table)
    found = {row.class_id: row for row in confidence_by_class(pseudo_labels).collect()}
    first = pseudo_labels.first()
    if first is None:
        return  # nothing was selected
    now = time.time()
    # Of the pseudo-labels of which nobody knows the truth, none is wrong.
    is_known = sum(row["labelled"] for row in quality) == sum(row.num_labels for row in found.values())
    truth = {row["class_id"]: row for row in quality} if is_known else {}
    events = []
    for class_id, name in enumerate(manifest.class_names):
        row = found.get(class_id)
        p10, p50, p90 = row.quantiles if row else (None, None, None)
        events.append(
            PseudoLabelEvent(
                run=run,
                attempt=1,
                phase=PHASE,
                emitted_at=now,
                previous_run=previous_run,
                round=first[ROUND],
                class_id=class_id,
                class_name=name,
                labelled_count=manifest.counts[TRAIN][class_id],
                pseudo_label_count=row.num_labels if row else 0,
                mean_confidence=row.mean_confidence if row else None,
                confidence_p10=p10,
                confidence_p50=p50,
                confidence_p90=p90,
                correct_count=truth[class_id]["correct"] if truth else None,
                unlabeled_count=truth[class_id]["support"] if truth else None,
            )
        )
    write_pseudo_label_events(events_dir, events)


def confidence_by_class(pseudo_labels: DataFrame) -> DataFrame:
    """One row per class with a pseudo-label: class_id, num_labels, mean_confidence, quantiles (those of QUANTILES)."""
    confidence = F.col(CONFIDENCE).cast("double")
    return pseudo_labels.groupBy(F.col(PSEUDO_LABEL).alias("class_id")).agg(
        F.count("*").alias("num_labels"),
        F.avg(confidence).alias("mean_confidence"),
        F.percentile(confidence, F.array(*map(F.lit, QUANTILES))).alias("quantiles"),
    )


def _previous_run(checkpoint: Location) -> str:
    """The run on whose pseudo-labels the checkpoint was trained; an empty string if there is none."""
    from longtail.training.checkpoints import load_checkpoint  # torch takes seconds to import

    metadata = load_checkpoint(checkpoint).metadata
    trained_on = metadata.options.get("pseudo_labels") if metadata else None
    if not isinstance(trained_on, str):
        return ""
    # A checkpoint may come from a stranger, and name any file.
    with suppress(OSError, UserError, ValueError, LookupError, TypeError, RecursionError):
        table = location(trained_on)
        if isinstance(table, StorePath) and not (
            isinstance(checkpoint, StorePath) and table.authority == checkpoint.authority
        ):
            return ""  # no other store is asked because a checkpoint names it
        run = json.loads(read_regular_text(_origin_file(table)))["run"]
        return run if RUN_NAME.fullmatch(run) else ""
    return ""


def _origin_file(table: Location) -> Location:
    return table.with_suffix(".origin.json")
