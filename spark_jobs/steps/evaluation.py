"""Scores and predictions of a checkpoint, computed by Spark tasks."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, write_json_atomically
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.contract import CONFIDENCE, ID, IMAGE, LABEL, PREDICTED, SPLIT
from longtail.data.longtail import shot_groups
from longtail.data.manifest import Manifest, read_manifest
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.frames.predictions import IN_TOP5, LOSS, Classifier, classifier_of, with_predictions
from longtail.spark_jobs.frames.reading import read_prepared

if TYPE_CHECKING:
    from longtail.training.checkpoints import Checkpoint
    from longtail.training.metrics import Predictions

EVALUATION_DIRECTORY = "evaluation"
PREDICTIONS_DIRECTORY = "predictions.parquet"
SCORES_FILE = "scores.json"


def evaluate_checkpoint(spark: SparkSession, options: EvaluateOptions, *, set_dir: Path) -> tuple[Path, dict[str, Any]]:
    """Write predictions and scores; return their directory, and the scores in the layout of result.json.

    Raises UserError for invalid input.
    """
    # With torch, which takes seconds to import.
    from longtail.training.foreign_checkpoints import description_of
    from longtail.training.inference import load_classifier_checkpoint

    manifest = read_manifest(set_dir)
    splits = options.splits.split(",")
    evaluated = [split for split in splits if split != UNLABELED and sum(manifest.counts[split])]
    if not evaluated and not options.features:
        raise UserError(f"{set_dir} has no labelled images in {options.splits}: choose other --splits, or --features")
    checkpoint = load_classifier_checkpoint(options.resume, description_of(manifest), options.arch)
    classifier = classifier_of(
        options.resume,
        manifest,
        set_dir=set_dir,
        batch_size=options.batch_size,
        threads=options.threads,
        logit_adjustment=options.logit_adjustment,
        arch=options.arch,
        loss_type=options.loss_type,
    )
    output_dir = (options.output_dir or options.resume.parent / EVALUATION_DIRECTORY).absolute()
    predictions = output_dir / PREDICTIONS_DIRECTORY
    images = read_prepared(spark, set_dir).where(F.col(SPLIT).isin(splits)).select(SPLIT, ID, LABEL, IMAGE)
    with described(spark, f"evaluate {classifier.checkpoint} on {options.splits}"):
        with new_directory(predictions, replace=True) as directory:
            predicted = with_predictions(images, classifier, with_scores=True, with_features=options.features)
            predicted.write.mode("append").parquet(str(directory))
        rows = spark.read.parquet(str(predictions)).where(F.col(SPLIT) != UNLABELED)
        rows = rows.select(SPLIT, ID, LABEL, PREDICTED, CONFIDENCE, LOSS, IN_TOP5).orderBy(ID).toArrow()
    by_split = {split: rows.filter(pc.equal(rows[SPLIT], split)) for split in evaluated}
    result = _result(checkpoint, classifier, by_split, manifest, options)
    write_json_atomically(output_dir / SCORES_FILE, {"model_version": classifier.version, **result})
    return output_dir, result


def _result(
    checkpoint: "Checkpoint",
    classifier: Classifier,
    rows: dict[str, pa.Table],
    manifest: Manifest,
    options: EvaluateOptions,
) -> dict[str, Any]:
    """The scores, in the layout of result.json (training/run.py)."""
    from longtail.training.metrics import split_scores

    card = checkpoint.model_card
    assert card is not None, "load_classifier_checkpoint() refuses a checkpoint without it"
    card = card.in_order(classifier.class_order)
    groups = list(shot_groups(manifest.counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot))
    return {
        "run": card.run,
        "phase": card.phase,
        "epoch": checkpoint.epoch,
        "class_names": card.class_names,
        "class_counts": card.class_counts,
        "pseudo_label_round": card.pseudo_label_round,
        "shot_groups": groups,
        "best_on_validation": asdict(checkpoint.best) if checkpoint.best else None,
        "chosen_on_validation": {},
        "splits": {
            split: split_scores(_totals(of_split, len(groups)), _predictions(of_split), groups)
            for split, of_split in rows.items()
        },
    }


def _totals(rows: pa.Table, num_classes: int) -> dict[str, list[float]]:
    """Sums per class over the images of a split (training/metrics.py, ClassTotals)."""
    target, predicted = (rows[name].to_numpy() for name in (LABEL, PREDICTED))
    confidence, loss = (rows[name].to_numpy().astype(np.float64) for name in (CONFIDENCE, LOSS))

    def by_class(classes: np.ndarray, weights: np.ndarray | None = None) -> list[float]:
        return np.bincount(classes, weights, minlength=num_classes).astype(np.float64).tolist()

    return {
        "support": by_class(target),
        "correct": by_class(target[target == predicted]),
        "predicted": by_class(predicted),
        "loss_sum": by_class(target, loss),
        "confidence_sum": by_class(target, confidence),
    }


def _predictions(rows: pa.Table) -> "Predictions":
    import torch

    from longtail.training.metrics import Predictions

    columns = [rows[name].to_numpy().astype(np.float64) for name in (LABEL, PREDICTED, CONFIDENCE, IN_TOP5)]
    return Predictions(torch.from_numpy(np.stack(columns)))
