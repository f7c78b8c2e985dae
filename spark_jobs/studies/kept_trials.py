"""The table of trials that a report keeps beside it: a Parquet file with its rows and the experiment.

    REPORT/trials.parquet

It is small and all that a report is made of, so that a report can be checked and made anew, and its experiment can go
on, on any machine: `report --trials` and `experiment --trials` read it.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import redacted_values
from longtail.conf.experiment import Experiment
from longtail.data.storage import damaged, open_parquet
from longtail.spark_jobs.steps.report_files import TRIALS_FILE
from longtail.spark_jobs.studies.planned import PlannedTrial
from longtail.spark_jobs.studies.results import read_rows, trial_file, write_trial
from longtail.spark_jobs.studies.trial_row import TRIAL_SCHEMA, Row

_EXPERIMENT_KEY = "longtail.experiment"


def keep_trials(file: Location, experiment: Experiment, rows: Sequence[Row]) -> None:
    """Write the rows and the experiment (into a directory that is replaced as a whole)."""
    definition = Experiment.model_validate(redacted_values(experiment.model_dump(mode="json")))
    metadata = {_EXPERIMENT_KEY: definition.model_dump_json()}
    table = pa.Table.from_pylist(list(rows), schema=TRIAL_SCHEMA.with_metadata(metadata))
    with file.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")


def kept_trials(file: Location) -> tuple[Experiment, list[Row]]:
    """The experiment and its rows. Raises UserError if the file is damaged or no report's."""
    with open_parquet(file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
    text = metadata.get(_EXPERIMENT_KEY.encode())
    if text is None:
        raise UserError(f"{file} has no experiment in it: name the {TRIALS_FILE} that `longtail report` writes")
    try:
        experiment = Experiment.model_validate(finite_json(text.decode()))
    except (ValueError, RecursionError) as error:
        raise damaged(file, error) from None
    return experiment, read_rows(file)


def take_over_trials(file: Location, trials: Sequence[PlannedTrial], *, results_dir: Location, experiment: str) -> None:
    """Write those of the trials that the file has, and that the results table lacks, to the results table.

    Not those with a note: they have less than a finished trial has.
    """
    _, rows = kept_trials(file)
    known = {row["trial"]: row for row in rows if row["note"] is None}
    for trial in trials:
        row = known.get(trial.trial.trial_id)
        if row is not None and not trial_file(results_dir, experiment, trial).exists():
            write_trial(results_dir, row, trial, experiment=experiment)
