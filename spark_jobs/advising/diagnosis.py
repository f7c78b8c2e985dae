"""Labelled and unlabeled images as a base classifier sees them: what is estimated, advised, written and shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich import get_console
from rich.table import Table

from longtail.conf.arguments import options_for
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.inference import INFERENCE_BATCH_SIZE, EvaluateOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, LABEL, PREDICTED, PROBABILITIES, SPLIT
from longtail.data.longtail import shot_groups
from longtail.data.manifest import read_manifest
from longtail.data.statistics import class_distribution
from longtail.spark_jobs.advising.estimates import Estimate, Estimates, Said, estimates, head_half
from longtail.spark_jobs.advising.sentences import (
    Advice,
    advice_on_self_supervision,
    advice_on_unlabeled,
    conclusion,
    gap_sentence,
    threshold_sentence,
)
from longtail.spark_jobs.advising.threshold import ThresholdBias, threshold_bias
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.frames.predictions import FEATURES
from longtail.spark_jobs.steps.evaluation import PREDICTIONS_DIRECTORY, evaluate

ADVICE_FILE = "advice.json"
CLASSES_FILE = "classes.parquet"
MAX_CLASSES_SHOWN = 100
MOST_IMAGES = {VAL: 20_000, UNLABELED: 20_000}
"""More images of a part make the estimates no better and take memory; which, a hash of the id decides."""
LEAST_PROBABILITY = 1e-12
"""What float32 rounds to 0 has finite odds all the same."""
_LOG_ODDS = "head_log_odds"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is told of a user's data.

    class_names, shot_groups: by class
    is_head: (C,) bool, the half of the classes that has most labels
    labelled, held_out: (C,) labelled images, and those of them that the classifier did not learn from
    predicted: (C,) unlabeled images taken for a class, of those looked at
    rho, tail_share: of the labelled images: largest over smallest class, share of the tail half
    """

    checkpoint: Path
    class_names: Sequence[str]
    shot_groups: Sequence[str]
    is_head: np.ndarray
    labelled: np.ndarray
    held_out: np.ndarray
    predicted: np.ndarray
    rho: float
    tail_share: float
    found: Estimates
    bias: ThresholdBias | None
    on_unlabeled: Advice
    on_self_supervision: Advice


def diagnose(
    spark: SparkSession, options: AdviseOptions, *, set_dir: Path, checkpoint: Path, output_dir: Path
) -> Diagnosis:
    """Let the checkpoint say what the images are, and draw conclusions. Raises UserError for bad input."""
    manifest = read_manifest(set_dir)
    for split, mend in ((VAL, "no class has two labelled images or more"), (UNLABELED, "name some with --unlabeled")):
        if not manifest.num_images(split):
            raise UserError(f"{set_dir.name} has no image in its part {split!r}: {mend}")
    held_out = np.array(manifest.counts[VAL])
    labelled = np.array(manifest.counts[TRAIN]) + held_out
    is_head = head_half(labelled.tolist())
    evaluation = options_for(
        EvaluateOptions, options, resume=checkpoint, splits=",".join(MOST_IMAGES),
        batch_size=INFERENCE_BATCH_SIZE, output_dir=output_dir, features=True,
    )  # fmt: skip
    evaluate(spark, evaluation, set_dir=set_dir)
    predictions = output_dir / PREDICTIONS_DIRECTORY
    said = {split: read_said(spark, predictions, split, is_head, most=most) for split, most in MOST_IMAGES.items()}
    found = estimates(val=said[VAL], unlabeled=said[UNLABELED], is_head=is_head, seed=options.seed)
    rho = class_distribution(labelled.tolist()).rho
    assert rho is not None, "prepare leaves no class without an image"
    tail_share = float(labelled[~is_head].sum() / labelled.sum())
    return Diagnosis(
        checkpoint=checkpoint,
        class_names=manifest.class_names,
        shot_groups=shot_groups(manifest.counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot),
        is_head=is_head,
        labelled=labelled,
        held_out=held_out,
        predicted=np.bincount(said[UNLABELED].predicted, minlength=len(labelled)),
        rho=rho,
        tail_share=tail_share,
        found=found,
        bias=threshold_bias(said[VAL], said[UNLABELED], found, is_head=is_head),
        on_unlabeled=advice_on_unlabeled(found, rho=rho, tail_share=tail_share),
        on_self_supervision=advice_on_self_supervision(found, num_labelled=int(labelled.sum())),
    )


def read_said(spark: SparkSession, predictions: Path, split: str, is_head: np.ndarray, *, most: int) -> Said:
    """What `evaluate` wrote of the images of a part, at most so many of them."""
    of_head, of_tail = (_total_probability(half) for half in (is_head, ~is_head))
    rows = (
        spark.read.parquet(str(predictions))
        .where(F.col(SPLIT) == split)
        .select(ID, LABEL, PREDICTED, FEATURES, (F.log(of_head) - F.log(of_tail)).alias(_LOG_ODDS))
        .orderBy(F.xxhash64(ID), ID)
        .limit(most)
        .toArrow()
    )
    return Said(
        predicted=rows[PREDICTED].to_numpy(),
        features=pc.list_flatten(rows[FEATURES]).to_numpy().reshape(rows.num_rows, -1),
        head_log_odds=rows[_LOG_ODDS].to_numpy(),
        labels=None if split == UNLABELED else rows[LABEL].to_numpy(),
    )


def _total_probability(half: np.ndarray) -> Any:
    """Of the classes of a half together, as a column."""
    of_half = F.filter(PROBABILITIES, lambda _, place: F.element_at(F.array(*map(F.lit, half.tolist())), place + 1))
    return F.greatest(F.aggregate(of_half, F.lit(0.0), lambda total, p: total + p), F.lit(LEAST_PROBABILITY))


def write_diagnosis(diagnosis: Diagnosis, output_dir: Path) -> None:
    """advice.json and classes.parquet in the directory."""
    rows = class_rows(diagnosis)
    content = {
        "checkpoint": str(diagnosis.checkpoint),
        "conclusion": conclusion(diagnosis.on_unlabeled, diagnosis.on_self_supervision),
        "unlabeled_data": asdict(diagnosis.on_unlabeled),
        "self_supervision": asdict(diagnosis.on_self_supervision),
        "head_tail_gap": gap_sentence(diagnosis.found),
        "theorem_1": threshold_sentence(diagnosis.bias),
        "labelled": {"rho": diagnosis.rho, "tail_share": diagnosis.tail_share},
        "estimates": {
            name: asdict(value) for name, value in vars(diagnosis.found).items() if isinstance(value, Estimate)
        },
        "threshold_bias": diagnosis.bias and asdict(diagnosis.bias),
        "classes": rows,
    }
    write_json_atomically(output_dir / ADVICE_FILE, content)
    write_atomically(output_dir / CLASSES_FILE, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))


def class_rows(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """A row a class; shares are of all unlabeled images. Precision is null where nothing is taken for the class."""
    found = diagnosis.found
    return [
        {
            "class_id": class_id,
            "class_name": name,
            "shot_group": diagnosis.shot_groups[class_id],
            "half": "head" if diagnosis.is_head[class_id] else "tail",
            "labelled": int(diagnosis.labelled[class_id]),
            "held_out": int(diagnosis.held_out[class_id]),
            "predicted_share": float(diagnosis.predicted[class_id] / diagnosis.predicted.sum()),
            "estimated_share": float(found.relevance.value * found.class_shares[class_id]),
            "recall": float(found.recall[class_id]),
            "precision": None if np.isnan(found.precision[class_id]) else float(found.precision[class_id]),
        }
        for class_id, name in enumerate(diagnosis.class_names)
    ]


def print_diagnosis(diagnosis: Diagnosis) -> None:
    console = get_console()
    rows = class_rows(diagnosis)
    if len(rows) <= MAX_CLASSES_SHOWN:
        table = Table(title="estimates without a look at test images or withheld labels", title_justify="left")
        for heading in ("class", "half"):
            table.add_column(heading)
        for heading in ("labelled", "held out", "taken for it %", "of it %", "recall %", "precision %"):
            table.add_column(heading, justify="right")
        for row in rows:
            scores = (row[name] for name in ("predicted_share", "estimated_share", "recall", "precision"))
            counts = (str(row[name]) for name in ("labelled", "held_out"))
            table.add_row(row["class_name"], row["half"], *counts, *map(percent, scores))
        console.print(table)
    else:
        console.print(f"{len(rows)} classes, each in {CLASSES_FILE}", soft_wrap=True)
    for line in sentences(diagnosis):
        console.print(line, soft_wrap=True, highlight=False)


def sentences(diagnosis: Diagnosis) -> list[str]:
    """The conclusion, each verdict with its reasons, the gap of head and tail, and theorem 1's view, a line each."""
    lines = [conclusion(diagnosis.on_unlabeled, diagnosis.on_self_supervision)]
    for name, advice in (
        ("unlabeled data", diagnosis.on_unlabeled),
        ("self-supervision", diagnosis.on_self_supervision),
    ):
        lines += [f"{name}: {advice.said}", *(f"- {reason}" for reason in advice.reasons)]
    return [*lines, gap_sentence(diagnosis.found), threshold_sentence(diagnosis.bias)]
