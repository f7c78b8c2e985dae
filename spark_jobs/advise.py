"""What unlabeled images and self-supervision are likely to add to your own labelled images, and why.

    longtail advise --labelled DIR --unlabeled IMAGES
    spark-submit spark_jobs/advise.py --labelled DIR --unlabeled IMAGES

--labelled: a directory with a folder a class, a Parquet or Delta table, or a
prepared set (whose own unlabeled part is taken if --unlabeled names no other); or
say --dataset as to the other jobs. Holds out a share of the labelled images,
trains a base classifier on the rest (or takes --resume CKPT), and estimates from
what it says how imbalanced the unlabeled images are, how many of them belong to
the classes, and how right their pseudo-labels would be. Test images and withheld
labels are not looked at. Writes advice.json, classes.parquet (a row a class) and
what `evaluate` writes.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail.conf.arguments import data_flags, given_values, options_for, resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.data import OF_UNLABELED, DataOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.manifest import FILE_NAME, read_manifest
from longtail.data.storage import is_table
from longtail.spark_jobs.advising.diagnosis import ADVICE_FILE, CLASSES_FILE, diagnose, print_diagnosis, write_diagnosis
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.prepare import PREPARED_DIRECTORY, prepare
from longtail.spark_jobs.steps.training import DATA_OPTIONS, options_of_checkpoint, train_run, training_session

ADVICE_DIRECTORY = "advice"


def main(argv: Sequence[str]) -> None:
    options = advise_options(given_values(AdviseOptions, argv, prog="longtail advise"))
    spark = training_session("advise", options)
    set_dir = prepare(spark, options)
    checkpoint = options.resume or train_run(spark, options_for(TrainOptions, options), set_dir=set_dir).checkpoint
    output_dir = (options.output_dir or checkpoint.parent / ADVICE_DIRECTORY / set_dir.name).absolute()
    diagnosis = diagnose(spark, options, set_dir=set_dir, checkpoint=checkpoint, output_dir=output_dir)
    write_diagnosis(diagnosis, output_dir)
    print_diagnosis(diagnosis)
    print(f"advice: {output_dir / ADVICE_FILE}, {output_dir / CLASSES_FILE}")
    flags = data_flags(options)
    if diagnosis.on_unlabeled.verdict != "no gain":
        print(f"next: longtail gen_pseudolabels --resume {checkpoint} {flags}\n  and: longtail train_semi {flags}")
    if diagnosis.on_self_supervision.verdict != "no gain":
        print(f"next: longtail pretrain_rot {flags}")


def advise_options(given: Mapping[str, Any]) -> AdviseOptions:
    """The options, with what --labelled and the checkpoint of --resume say of the data set.

    Raises UserError for bad input, or if the checkpoint learned from other labelled images.
    """
    named = _labelled_options(given)
    learned_from = options_of_checkpoint(given, DATA_OPTIONS)
    of_checkpoint = {} if named else learned_from
    if OF_UNLABELED & given.keys():
        named, of_checkpoint = _without_unlabeled(named), _without_unlabeled(of_checkpoint)
    options = resolve_options(AdviseOptions, {**of_checkpoint, **named, **given})
    if learned_from:
        theirs, ours = (_labelled_part(of) for of in (resolve_options(DataOptions, learned_from), options))
        if differing := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
            said = ", ".join(f"{name} {theirs.get(name)} (here {ours.get(name)})" for name in differing)
            raise UserError(f"{options.resume} learned from other labelled images: {said}; leave out --resume")
    return options


def _labelled_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that name the data set that --labelled means; of a prepared set its own."""
    if "labelled" not in given:
        return {}
    place = Path(given["labelled"])
    if clash := sorted({"dataset", "path"} & given.keys()):
        raise UserError(f"--labelled {place} says what --{clash[0]} says: leave one of them out")
    if (place / FILE_NAME).is_file():
        values = dict(read_manifest(place).parameters)
        if values["val_fraction"] == 0:
            del values["val_fraction"]  # another set is prepared, like this one but for the images held out
        place = place.absolute()
        return {**values, **({"data_dir": place.parents[1]} if place.parent.name == PREPARED_DIRECTORY else {})}
    return {"dataset": "table" if place.is_file() or is_table(place) else "folder", "path": place}


def _without_unlabeled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_UNLABELED}


def _labelled_part(options: DataOptions) -> dict[str, Any]:
    """What decides which images have labels."""
    without = {name: DataOptions.model_fields[name].default for name in OF_UNLABELED}
    return options.model_copy(update=without).set_parameters()


if __name__ == "__main__":
    run_job("advise", main, sys.argv[1:])
