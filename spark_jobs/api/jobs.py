"""The jobs as functions: each has the options of its command line, and works in the Spark session that is there."""

from typing import Any, TypeVar

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.base.user_code import is_code_name
from longtail.conf.command_line.spellings import by_option_name
from longtail.conf.options.calibrate import CalibrateImagesOptions, CalibrateOptions
from longtail.conf.options.data import DATA_OPTIONS, DataOptions
from longtail.conf.options.inference import EvaluateImagesOptions, EvaluateOptions, GenPseudolabelsOptions
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.spark_jobs.api.call import api_call
from longtail.spark_jobs.api.dataset import Dataset
from longtail.spark_jobs.api.run import Run, Scores
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.calibration import Calibrated, calibrate_by_images, calibrate_checkpoint
from longtail.spark_jobs.steps.checkpoint_options import continued
from longtail.spark_jobs.steps.evaluation import evaluate_checkpoint, evaluate_images
from longtail.spark_jobs.steps.labelling import gen_pseudolabels
from longtail.spark_jobs.steps.self_training import pseudo_label_table, train_rounds
from longtail.spark_jobs.steps.training import train_run, training_session
from longtail.training.run_directory import FinishedRun

Options = TypeVar("Options", bound=DataOptions)


@api_call()
def pretrain(dataset: Dataset, method: str = "rot", **options: Any) -> Run:
    """Learn features from the images of the labelled part, without their labels.

    method: rot (rotations), moco (MoCo v2) or simclr
    options: those of `longtail pretrain_METHOD`

    The run's checkpoint is the start of a training: train(dataset, pretrained_model=run.checkpoint).
    """
    job = f"pretrain_{method}"
    if job not in PRETRAININGS:
        known = [name.removeprefix("pretrain_") for name in PRETRAININGS]
        raise UserError(f"method {method!r}: {', '.join(known)} were expected{did_you_mean(method, known)}")
    return _trained(dataset, _options(PRETRAININGS[job], dataset, options))


@api_call()
def train(dataset: Dataset, **options: Any) -> Run:
    """Train on the labelled part, or give back the run if these options have been trained with already.

    options: those of `longtail train`
    """
    return _trained(dataset, _options(TrainOptions, dataset, options))


@api_call()
def pseudo_labels(run: Run, dataset: Dataset, **options: Any) -> Location:
    """Label the unlabeled part by a run's network; the path of the table.

    options: those of `longtail gen_pseudolabels`
    """
    resolved = _options(GenPseudolabelsOptions, dataset, {"arch": run.arch, **options, "resume": run.checkpoint})
    return gen_pseudolabels(spark_session("gen_pseudolabels", resolved, networks=True), resolved, set_dir=dataset.path)


@api_call()
def train_semi(dataset: Dataset, *, pseudo_labels: str | Location | None = None, **options: Any) -> Run:
    """Train on the labels and pseudo-labels together.

    pseudo_labels: a table of pseudo_labels(); by default the latest of this data set
    options: those of `longtail train_semi`
    """
    resolved = _options(TrainSemiOptions, dataset, {"pseudo_labels": pseudo_labels, **options})
    table = pseudo_label_table(resolved) if resolved.needs_pseudo_labels else None
    spark = training_session("train_semi", resolved)
    return _run(train_rounds(spark, resolved, set_dir=dataset.path, pseudo_labels=table), resolved)


@api_call()
def evaluate(checkpoint: Run | str | Location, on: Dataset | str | Location, **options: Any) -> Scores:
    """Score a checkpoint, or the last of a run.

    on: a prepared data set; or a directory of class folders, or a table, of labelled images that belong to none
    options: those of `longtail evaluate`
    """
    values = _of_checkpoint(checkpoint, options)
    if isinstance(on, Dataset):
        resolved = _options(EvaluateOptions, on, values)
        spark = spark_session("evaluate", resolved, networks=True)
        directory, result = evaluate_checkpoint(spark, resolved, set_dir=on.path)
    else:
        given = by_option_name(EvaluateImagesOptions, values)
        of_images = resolve_options(EvaluateImagesOptions, {**given, "path": on})
        directory, result = evaluate_images(spark_session("evaluate", of_images, networks=True), of_images)
    return Scores(path=directory, result=result)


@api_call()
def calibrate(checkpoint: Run | str | Location, by: Dataset | str | Location, **options: Any) -> Calibrated:
    """Calibrate the probabilities of a checkpoint and write a new one; the old one stays.

    by: the prepared set, for its validation images; or a directory of class folders, or a table, of labelled images
        from which the network has not learned
    options: those of `longtail calibrate`
    """
    values = _of_checkpoint(checkpoint, options)
    if isinstance(by, Dataset):
        resolved = _options(CalibrateOptions, by, values)
        return calibrate_checkpoint(spark_session("calibrate", resolved, networks=True), resolved, set_dir=by.path)
    given = by_option_name(CalibrateImagesOptions, values)
    of_images = resolve_options(CalibrateImagesOptions, {**given, "path": by})
    return calibrate_by_images(spark_session("calibrate", of_images, networks=True), of_images)


def _of_checkpoint(checkpoint: Run | str | Location, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the checkpoint that is meant; of a run also the user's own network."""
    if isinstance(checkpoint, Run):
        return {"arch": checkpoint.arch, **options, "resume": checkpoint.checkpoint}
    return {**options, "resume": checkpoint}


def _options(options_type: type[Options], dataset: Dataset, given: dict[str, Any]) -> Options:
    """The options of a job on a data set, in any spelling of the command line.

    Raises UserError if they are invalid, or name another data set.
    """
    given = by_option_name(options_type, given)
    if of_set := sorted(DATA_OPTIONS & given.keys()):
        raise UserError(f"{of_set[0]} belongs to the data set: give it to prepare()")
    if given.get("evaluate"):
        raise UserError("evaluate is a function of its own: evaluate(run, dataset)")
    if given.get("dry_run"):
        raise UserError("dry_run is for the command line: `longtail train --dry_run` shows the cost of a training")
    use_settings_of_spark()
    values = {**dataset.values(), **given}
    if issubclass(options_type, RunOptions) and given.get("resume") is not None:
        return continued(options_type, values).options
    return resolve_options(options_type, values, is_prepared=True)


def _trained(dataset: Dataset, options: RunOptions) -> Run:
    spark = training_session(options.phase, options)
    return _run(train_run(spark, options, set_dir=dataset.path), options)


def _run(finished: FinishedRun, options: RunOptions) -> Run:
    own = str(options.arch) if is_code_name(str(options.arch)) else None
    return Run(path=finished.run_dir, result=finished.result, checkpoint=finished.checkpoint, arch=own)
