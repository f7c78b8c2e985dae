"""Scores and predictions of a checkpoint, computed by Spark tasks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import new_table_directory
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.inference import EvaluateImagesOptions, EvaluateOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.contract import BAD_IMAGE, ID, IMAGE, LABEL, SPLIT
from longtail.data.longtail import shot_groups
from longtail.data.manifest import Manifest, read_manifest
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.display.activity import Activity
from longtail.spark_jobs.frames.named_predictions import TRUE_CLASS, Additions
from longtail.spark_jobs.frames.predictions import classifier_alone, classifier_of, with_predictions
from longtail.spark_jobs.frames.reading import pattern_of, read_prepared
from longtail.spark_jobs.frames.scores import table_scores
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.class_shares import ESTIMATED, ClassShares, sampled, with_prior
from longtail.spark_jobs.steps.kept_predictions import keep_evaluation
from longtail.spark_jobs.steps.new_images import new_images

if TYPE_CHECKING:
    from longtail.training.checkpoints import Checkpoint

EVALUATION_DIRECTORY = "evaluation"
PREDICTIONS_DIRECTORY = "predictions.parquet"
SCORES_FILE = "scores.json"


def evaluate_checkpoint(
    spark: SparkSession, options: EvaluateOptions, *, set_dir: Location
) -> tuple[Location, dict[str, Any]]:
    """Write predictions and scores; return their directory, and the scores in the layout of result.json.

    Raises UserError for invalid input.
    """
    # With torch, which takes seconds to import.
    from longtail.training.foreign_checkpoints import set_description
    from longtail.training.inference import load_classifier_checkpoint

    manifest = read_manifest(set_dir)
    splits = options.splits.split(",")
    evaluated = [split for split in splits if split != UNLABELED and sum(manifest.counts[split])]
    if not evaluated and not options.features:
        raise UserError(f"{set_dir} has no labelled images in {options.splits}: choose other --splits, or --features")
    checkpoint = load_classifier_checkpoint(options.resume, set_description(manifest), options.arch)
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
    output_dir = evaluation_dir(options)
    groups = list(shot_groups(manifest.counts[TRAIN], many_shot=options.many_shot, few_shot=options.few_shot))
    metadata = checkpoint.metadata
    assert metadata is not None, "load_classifier_checkpoint() refuses a checkpoint without it"
    if options.prior == ESTIMATED and len(splits) > 1:
        raise UserError(f"--prior {ESTIMATED} estimates the class shares of one split: name it with --splits")
    images = read_prepared(spark, set_dir).where(F.col(SPLIT).isin(splits)).select(SPLIT, ID, LABEL, IMAGE)
    with (
        described(spark, f"evaluate {classifier.checkpoint} on {options.splits}"),
        _replaced_together(output_dir) as directory,
        Activity(spark, "predicting the images") as activity,
    ):
        classifier, class_shares = with_prior(
            classifier,
            metadata.in_order(classifier.class_order),
            options.prior,
            lambda uncorrected: with_predictions(sampled(images, num_classes=len(groups)), uncorrected),
            beside=output_dir,
        )
        predicted = with_predictions(
            images,
            classifier,
            with_probabilities=options.probabilities,
            with_scores=True,
            with_features=options.features,
        )
        write_parquet(predicted, directory)
        activity.now("computing the scores")
        rows = spark.read.parquet(pattern_of(directory))
        splits_scores = {
            split: table_scores(rows.where(F.col(SPLIT) == split), groups, label_column=LABEL) for split in evaluated
        }
        if options.logit_adjustment is None and class_shares is None:
            keep_evaluation(
                rows, checkpoint=options.resume.absolute(), manifest=manifest, set_dir=set_dir, epoch=checkpoint.epoch
            )
    result = evaluation_result(
        checkpoint, splits_scores, groups,
        order=classifier.class_order, manifest=manifest, class_shares=class_shares,
    )  # fmt: skip
    write_json_atomically(output_dir / SCORES_FILE, {"model_version": classifier.version, **result})
    return output_dir, result


def evaluate_images(spark: SparkSession, options: EvaluateImagesOptions) -> tuple[Location, dict[str, Any]]:
    """As evaluate_checkpoint, of labelled images that belong to no prepared set; their scores are those of TEST.

    Shot groups are those of the checkpoint's class counts. Images that are skipped are not counted.
    """
    from longtail.training.inference import load_classifier_checkpoint

    checkpoint = load_classifier_checkpoint(options.resume)
    classifier, metadata = classifier_alone(
        options.resume,
        batch_size=options.batch_size,
        threads=options.threads,
        logit_adjustment=options.logit_adjustment,
        arch=options.arch,
        loss_type=options.loss_type,
    )
    output_dir = evaluation_dir(options)
    groups = list(shot_groups(metadata.class_counts, many_shot=options.many_shot, few_shot=options.few_shot))
    with (
        described(spark, f"evaluate {classifier.checkpoint} on {options.path}"),
        new_images(spark, options.path, options, beside=output_dir, label_column=options.label_column) as found,
        _replaced_together(output_dir) as directory,
        Activity(spark, "predicting the images") as activity,
    ):
        classifier, class_shares = with_prior(
            classifier,
            metadata,
            options.prior,
            lambda uncorrected: found.sample(num_classes=len(groups), kept=[]).predicted(
                uncorrected, metadata.class_names, Additions(probabilities=True)
            ),
            beside=output_dir,
        )
        predicted = found.predicted(classifier, metadata.class_names, Additions(label_column=options.label_column))
        write_parquet(predicted, directory)
        activity.now("computing the scores")
        rows = spark.read.parquet(pattern_of(directory))
        scores = table_scores(rows.where(F.col(BAD_IMAGE).isNull()), groups, label_column=TRUE_CLASS)
        num_bad = rows.where(F.col(BAD_IMAGE).isNotNull()).count()
    result = evaluation_result(checkpoint, {TEST: scores}, groups, class_shares=class_shares)
    written = {"model_version": classifier.version, **result, "num_bad_images": num_bad}
    write_json_atomically(output_dir / SCORES_FILE, written)
    return output_dir, written


@contextmanager
def _replaced_together(output_dir: Location) -> Iterator[Location]:
    """A directory for new predictions. If the block succeeds, they replace the old ones, whose scores are removed.

    So whoever finds scores finds the predictions that they are of, whenever the job is killed.
    """
    scores = output_dir / SCORES_FILE
    with new_table_directory(output_dir / PREDICTIONS_DIRECTORY) as directory:
        if isinstance(output_dir, StorePath):  # where the old predictions have gone already
            scores.unlink(missing_ok=True)
        yield directory
        scores.unlink(missing_ok=True)


def evaluation_dir(options: EvaluateOptions | EvaluateImagesOptions) -> Location:
    """Where an evaluation is written to."""
    return (options.output_dir or options.resume.parent / EVALUATION_DIRECTORY).absolute()


def evaluation_result(
    checkpoint: "Checkpoint",
    splits: dict[str, dict[str, Any]],
    groups: Sequence[str],
    *,
    order: Sequence[int] | None = None,
    manifest: Manifest | None = None,
    class_shares: ClassShares | None = None,
) -> dict[str, Any]:
    """The scores, in the layout of result.json (training/run_result.py).

    order: class order[i] of the checkpoint is class i of the scores
    manifest: of the prepared set that was scored, if there is one
    class_shares: what the predictions are for, if it is not what the checkpoint's are for
    """
    metadata = checkpoint.metadata
    assert metadata is not None, "load_classifier_checkpoint() refuses a checkpoint without it"
    metadata, best = metadata.in_order(order), checkpoint.best_on(manifest.identity if manifest else None)
    return {
        "run": metadata.run,
        "phase": metadata.phase,
        "epoch": checkpoint.epoch,
        "class_names": metadata.class_names,
        "class_counts": metadata.class_counts,
        "pseudo_label_round": metadata.pseudo_label_round,
        "shot_groups": list(groups),
        "best_on_validation": asdict(best) if best else None,
        "chosen_on_validation": {},
        "copies": list(manifest.copies if manifest else ()),
        **({"class_shares": class_shares.recorded()} if class_shares else {}),
        "splits": splits,
    }
