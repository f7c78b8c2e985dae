"""The page of a report that shows images: for each combination of levels, which few-shot images are predicted how."""

import json
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.conf.experiment import Experiment
from longtail.conf.vocabulary import FEW, TEST
from longtail.data.kept_predictions import is_kept
from longtail.spark_jobs.steps.report_files import PAGE_FILE
from longtail.spark_jobs.steps.run_images import run_gallery
from longtail.spark_jobs.studies.arms import Arm, arms_of
from longtail.spark_jobs.studies.trial_row import Row
from longtail.streaming.dashboard.gallery import CELL, Gallery, WantedImages, gallery_document
from longtail.streaming.events.schema import RUN_NAME

MOST_ARMS, MOST_SHOWN = 12, 24
"""Combinations, and images of each."""
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Images – {title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 80rem; }}</style>
<p><a href="{page}">{title}</a></p>
"""


def images_page(experiment: Experiment, rows: Sequence[Row]) -> str | None:
    """HTML of the images of at most MOST_ARMS combinations, of the first seed each; None if no run has any.

    Runs that are gone, or have kept no predictions, are left out.
    """
    galleries = list(islice(filter(None, map(_few_shot_images, arms_of(experiment, rows))), MOST_ARMS))
    if not galleries:
        return None
    return _HEAD.format(title=escape(experiment.title), page=PAGE_FILE) + gallery_document(galleries)


def _few_shot_images(arm: Arm) -> Gallery | None:
    row = min(arm.rows, key=lambda row: row["seed"])
    few = tuple(number for number, group in enumerate(row["shot_groups"] or []) if group == FEW)
    run_dir = _run_dir(row)
    try:
        if not few or run_dir is None or not is_kept(run_dir, TEST):
            return None
        wanted = WantedImages(
            kind=CELL, run=row["run"], split=TEST, truth=few, predicted=tuple(range(len(row["class_names"]))),
            title=f"{arm.label}: few-shot images, seed {row['seed']}",
        )  # fmt: skip
        return run_gallery(run_dir, wanted, most_shown=MOST_SHOWN)
    except (UserError, OSError):
        return None


def _run_dir(row: Row) -> Location | None:
    """The run's directory; None if it is not on this machine: no store is asked because a table names it."""
    try:
        runs_dir = location(json.loads(row["configuration"])["runs_dir"])
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(runs_dir, Path) or not RUN_NAME.fullmatch(row["run"]) or (runs_dir / row["run"]).is_symlink():
        return None
    return runs_dir / row["run"]
