"""What a finished run has, as files for people who do not use Longtail: result, plots, model card, model."""

import shutil
from pathlib import Path
from typing import Any

from longtail.conf.base.files import open_for_reading
from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import is_code_name
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.spark_jobs.display.class_plot import head_to_tail_figure
from longtail.spark_jobs.display.confusion import confusion_figure
from longtail.training.result_file import RESULT_FILE, read_result

CHECKPOINT, MODEL, MODEL_CARD, PLOTS = "ckpt.pth.tar", "model", "model_card.md", "plots"


def write_run_files(run_dir: Location, to: Path, *, arch: str | None) -> None:
    """Write into the directory ``to`` what the run has; nothing if its result or checkpoint is not there any more.

    arch: its network; one of the user's own code has no model, since whoever loads that would run the code

    Raises UserError if result or checkpoint are damaged.
    """
    if not (run_dir / RESULT_FILE).is_file() or not (run_dir / CHECKPOINT).is_file():
        return
    for name in (RESULT_FILE, CHECKPOINT):
        with open_for_reading(run_dir / name) as source, (to / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    result = read_result(to / RESULT_FILE)
    _draw(result, to / PLOTS)
    if result["phase"] not in PRETRAININGS:
        _write_model(result, to, arch)
    (to / CHECKPOINT).unlink()


def _draw(result: dict[str, Any], directory: Path) -> None:
    names, title = result["class_names"], result["run"]
    figures = {"class_sizes": head_to_tail_figure({TRAIN: result["class_counts"]}, title=title)}
    for split, scores in result["splits"].items():
        if scores.get("confusion"):
            figures[f"confusion_{split}"] = confusion_figure(scores["confusion"], names, title=f"{title}, {split}")
    directory.mkdir()
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=120)


def _write_model(result: dict[str, Any], to: Path, arch: str | None) -> None:
    from longtail.spark_jobs.tracking.mlflow_model import save_model
    from longtail.training.export.model_card import write_model_card  # with torch

    if TEST in result["splits"]:
        write_model_card(to / CHECKPOINT, to / MODEL_CARD)
    if arch is None or not is_code_name(arch):
        save_model(to / CHECKPOINT, to / MODEL)
