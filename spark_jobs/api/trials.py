"""The trials of an experiment as a DataFrame."""

import pandas as pd

from longtail.conf.base.locations import Location, location
from longtail.spark_jobs.api.known_options import with_known_options
from longtail.spark_jobs.studies.kept_trials import kept_trials
from longtail.spark_jobs.studies.trial_row import TRIAL_SCHEMA


@with_known_options
def trials(file: str | Location) -> pd.DataFrame:
    """The trials of an experiment, from the `trials.parquet` that `longtail report` keeps beside a report.

    A row for each: a column with its level for each axis, in the order of the experiment's file; `seed`; the scores on
    the test set at the last epoch, in [0, 1], such as `balanced_accuracy`; `pseudo_label_accuracy`; per class
    `class_names`, `class_counts` (training images), `class_accuracy`; `confusion`; and how it was trained. Null where
    something is not defined, or where an older version did not keep it. An axis with the name of another column takes
    its place.

    Raises UserError if `longtail report` did not write the file.
    """
    experiment, rows = kept_trials(location(file))
    columns: dict[str, object] = {}
    for axis, levels in experiment.axes.items():
        found = [row["levels"].get(axis) for row in rows]
        known = dict.fromkeys([*levels, *(level for level in found if level is not None)])
        columns[axis] = pd.Categorical(found, categories=list(known), ordered=True)
    others = [name for name in TRIAL_SCHEMA.names if name not in {"levels", *columns}]
    return pd.DataFrame(columns | {name: [row[name] for row in rows] for name in others})
