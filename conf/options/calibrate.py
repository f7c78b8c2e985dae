"""The job that calibrates a classifier's probabilities on held-out images."""

from typing import ClassVar

from pydantic import model_validator

from longtail.conf.base.locations import Location
from longtail.conf.options.base import JobOptions, option
from longtail.conf.options.classifier import images_per_pass, threads_option
from longtail.conf.options.inference import InferenceOptions, NewImagesOptions
from longtail.conf.options.location_types import FileLocation

DEFAULT_NAME = "calibrated.pth.tar"


class CalibratedOutput(JobOptions):
    """Where the calibrated checkpoint is written."""

    resume: FileLocation = option(..., "checkpoint of the classifier, which stays as it is", group="Input")
    output: Location | None = option(
        None, f"checkpoint to write; default: {DEFAULT_NAME} beside --resume", group="Output"
    )

    @property
    def calibrated(self) -> Location:
        """The checkpoint to write."""
        return (self.output or self.resume.parent / DEFAULT_NAME).absolute()

    @model_validator(mode="after")
    def _the_old_checkpoint_stays(self) -> "CalibratedOutput":
        if self.calibrated.resolve() == self.resume.resolve():
            raise ValueError(
                f"--output {self.calibrated} is the checkpoint of --resume, which stays: name another file"
            )
        if self.calibrated.is_dir():
            raise ValueError(f"--output {self.calibrated} is a directory, a file was expected")
        return self


class CalibrateOptions(InferenceOptions, CalibratedOutput):
    """calibrate: calibrate the probabilities of a checkpoint with a temperature and a bias for each class.

    They are fitted to the validation images of its data set (prepare --val_fraction), or to labelled ones of --path.
    """

    own_defaults: ClassVar[frozenset[str]] = frozenset({"arch", "batch_size"})
    examples = (
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar", "by the validation images of the checkpoint's data set"),
        (
            "--resume runs/digits-*-train-CE-*/ckpt.pth.tar --output digits.pth.tar",
            "the same, with the name of the new checkpoint",
        ),
    )

    path: Location | None = option(
        None,
        "labelled images to calibrate on, not used for training or testing: a directory of class folders, or a "
        "Parquet or Delta table; with --dataset folder, image_list or table, the images of a data set that is "
        "prepared from them",
        group="Your own images",
    )
    batch_size: int = images_per_pass()
    threads: int | None = threads_option()


class CalibrateImagesOptions(NewImagesOptions, CalibratedOutput):
    """calibrate: the same, by labelled images that belong to no data set."""

    label_column: str = option("label", "column of the class names in a table", group="Your own images")
