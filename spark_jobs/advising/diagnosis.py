"""Diagnosis of labelled and unlabeled images from the outputs of a base classifier."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from longtail.conf.arguments import options_for
from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.classifier import INFERENCE_BATCH_SIZE
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED, VAL
from longtail.data.contract import FEATURES, ID, LABEL, PREDICTED, PROBABILITIES, SPLIT
from longtail.data.copies import unlabeled_copy_lines
from longtail.data.longtail import head_half, shot_groups
from longtail.data.manifest import read_manifest
from longtail.data.statistics import class_distribution
from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.estimates import Estimates, estimate_unlabeled
from longtail.spark_jobs.advising.rules import Advice, advise_on_self_supervision, advise_on_unlabeled
from longtail.spark_jobs.advising.threshold import ThresholdBias, estimate_threshold_bias
from longtail.spark_jobs.frames.reading import pattern_of
from longtail.spark_jobs.steps.evaluation import PREDICTIONS_DIRECTORY, evaluate_checkpoint

MAX_IMAGES = 20_000
"""Images per split: more would need memory without improving the estimates. A hash of the id chooses them."""
MIN_PROBABILITY = 1e-12
"""Gives finite log odds to a probability that float32 rounds to 0."""
_LOG_ODDS = "head_log_odds"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Findings about a user's data.

    class_names, shot_groups: by class
    is_head: (C,) bool, the half of the classes with the most labels
    labelled, held_out: (C,) labelled images, and those of them that the classifier was not trained on
    predicted: (C,) unlabeled images by predicted class, of at most MAX_IMAGES
    rho, tail_share: of the labelled images: largest over smallest class, share of the tail half
    copies: what was left out of the unlabeled part, or kept in it, as copies of test or labelled images, in words
    """

    checkpoint: Location
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
    copies: Sequence[str] = ()


def diagnose(
    spark: SparkSession, options: AdviseOptions, *, set_dir: Location, checkpoint: Location, output_dir: Location
) -> Diagnosis:
    """Predict held-out and unlabeled images with the checkpoint, and draw conclusions.

    Raises UserError for bad input.
    """
    manifest = read_manifest(set_dir)
    for split, hint in ((VAL, "no class has two labelled images or more"), (UNLABELED, "name some with --unlabeled")):
        if not manifest.num_images(split):
            raise UserError(f"{set_dir.name} has no image in its part {split!r}: {hint}")
    held_out = np.array(manifest.counts[VAL])
    labelled = np.array(manifest.counts[TRAIN]) + held_out
    is_head = head_half(labelled.tolist())
    evaluation = options_for(
        EvaluateOptions,
        options,
        resume=checkpoint,
        splits=f"{VAL},{UNLABELED}",
        batch_size=INFERENCE_BATCH_SIZE,
        output_dir=output_dir,
        probabilities=True,
        features=True,
    )
    evaluate_checkpoint(spark, evaluation, set_dir=set_dir)
    predictions = output_dir / PREDICTIONS_DIRECTORY
    val = read_held_out(spark, predictions, is_head)
    unlabeled = read_unlabeled(spark, predictions, is_head)
    found = estimate_unlabeled(val, unlabeled, is_head=is_head, seed=options.seed)
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
        predicted=np.bincount(unlabeled.predicted, minlength=len(labelled)),
        rho=rho,
        tail_share=tail_share,
        found=found,
        bias=estimate_threshold_bias(val, unlabeled, found, is_head=is_head),
        on_unlabeled=advise_on_unlabeled(found, tail_share=tail_share),
        on_self_supervision=advise_on_self_supervision(found, num_labelled=int(labelled.sum())),
        copies=unlabeled_copy_lines(manifest),
    )


def read_held_out(
    spark: SparkSession, predictions: Location, is_head: np.ndarray, *, max_images: int = MAX_IMAGES
) -> HeldOutOutput:
    """The outputs that `evaluate` wrote for the validation split."""
    rows = _rows(spark, predictions, VAL, is_head, max_images)
    return HeldOutOutput(
        predicted=rows[PREDICTED].to_numpy(),
        features=_features(rows),
        head_log_odds=rows[_LOG_ODDS].to_numpy(),
        labels=rows[LABEL].to_numpy(),
    )


def read_unlabeled(
    spark: SparkSession, predictions: Location, is_head: np.ndarray, *, max_images: int = MAX_IMAGES
) -> ClassifierOutput:
    """The outputs that `evaluate` wrote for the unlabeled split."""
    rows = _rows(spark, predictions, UNLABELED, is_head, max_images)
    return ClassifierOutput(
        predicted=rows[PREDICTED].to_numpy(), features=_features(rows), head_log_odds=rows[_LOG_ODDS].to_numpy()
    )


def _rows(spark: SparkSession, predictions: Location, split: str, is_head: np.ndarray, max_images: int) -> pa.Table:
    head, tail = (_total_probability(half) for half in (is_head, ~is_head))
    return (
        spark.read.parquet(pattern_of(predictions))
        .where(F.col(SPLIT) == split)
        .select(ID, LABEL, PREDICTED, FEATURES, (F.log(head) - F.log(tail)).alias(_LOG_ODDS))
        .orderBy(F.xxhash64(ID), ID)
        .limit(max_images)
        .toArrow()
    )


def _features(rows: pa.Table) -> np.ndarray:
    """(N, D)."""
    return pc.list_flatten(rows[FEATURES]).to_numpy().reshape(rows.num_rows, -1)


def _total_probability(half: np.ndarray) -> Column:
    """The probability of the classes of a half together."""
    is_in_half = F.array(*map(F.lit, half.tolist()))
    of_half = F.filter(PROBABILITIES, lambda _, class_id: F.element_at(is_in_half, class_id + 1))
    return F.greatest(F.aggregate(of_half, F.lit(0.0), lambda total, p: total + p), F.lit(MIN_PROBABILITY))
