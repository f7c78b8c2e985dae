"""The commands that follow from the advice, which run as they are printed."""

from dataclasses import dataclass

from longtail.conf.base.locations import Location
from longtail.conf.next_command import next_command
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.spark_jobs.advising.diagnosis import Diagnosis
from longtail.spark_jobs.steps.checkpoint_options import data_options, metadata_of
from longtail.spark_jobs.steps.labelling import default_table
from longtail.spark_jobs.steps.next_steps import training_on_pseudo_labels


@dataclass(frozen=True)
class Commands:
    """The commands that follow the advice; None where no gain is expected."""

    unlabeled_data: str | None
    self_supervision: str | None


def commands_for(diagnosis: Diagnosis, options: AdviseOptions, *, set_dir: Location) -> Commands:
    """The commands that the diagnosis suggests."""
    return Commands(
        None if diagnosis.on_unlabeled.verdict == "no gain" else _label_and_train(diagnosis, options, set_dir),
        None if diagnosis.on_self_supervision.verdict == "no gain" else _pretrain(options),
    )


def _label_and_train(diagnosis: Diagnosis, options: AdviseOptions, set_dir: Location) -> str:
    """Label the unlabeled images with the base classifier, then train on labels and pseudo-labels."""
    checkpoint = diagnosis.checkpoint
    metadata = metadata_of(checkpoint)
    recorded = data_options(metadata, {}) if metadata else {}
    labelling = next_command(
        "gen_pseudolabels", GenPseudolabelsOptions, options, from_checkpoint=recorded, resume=checkpoint
    )
    table = default_table(options)
    return f"{labelling} && {training_on_pseudo_labels(options, checkpoint=checkpoint, table=table, set_dir=set_dir)}"


def _pretrain(options: AdviseOptions) -> str:
    """Pre-train by rotations; that job prints the command of the training that starts from there."""
    return next_command("pretrain_rot", PretrainRotOptions, options)
