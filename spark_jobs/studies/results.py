"""The results table: one row per trial, for all experiments.

    RESULTS_DIR/trials/experiment=NAME/TRIAL.parquet

The row of each finished trial is a file of its own, written atomically, so a killed
experiment loses none; Spark and pyarrow read RESULTS_DIR/trials as one table.
"""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_atomically, write_json_atomically
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import check_memory
from longtail.conf.base.shown_text import redacted_values
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.experiment import Experiment, read_experiment
from longtail.data.storage import damaged, open_parquet
from longtail.spark_jobs.studies.cost import StepTime
from longtail.spark_jobs.studies.planned import PlannedTrial
from longtail.spark_jobs.studies.trial_row import TRIAL_SCHEMA, Row

TRIALS_DIRECTORY = "trials"
TIMES_DIRECTORY = "step_times"
DEFINITIONS_DIRECTORY = "experiments"
EXPERIMENT = "experiment"


def trial_file(results_dir: Location, experiment: str, planned: PlannedTrial) -> Location:
    """The Parquet file of a trial's row."""
    return results_dir / TRIALS_DIRECTORY / f"{EXPERIMENT}={experiment}" / f"{planned.trial.trial_id}.parquet"


def write_trial(results_dir: Location, row: Row, planned: PlannedTrial, *, experiment: str) -> None:
    """Write the row of a finished trial as a file of the table of trials."""
    table = pa.Table.from_pylist([row], schema=TRIAL_SCHEMA)
    write_atomically(trial_file(results_dir, experiment, planned), lambda temporary: pq.write_table(table, temporary))


def read_trials(results_dir: Location, experiment: str) -> list[Row]:
    """All rows of an experiment, including trials that its file no longer has; empty if there is no table.

    Raises UserError if a file is damaged.
    """
    files = (results_dir / TRIALS_DIRECTORY / f"{EXPERIMENT}={experiment}").glob("[!._]*.parquet")
    return [row for file in sorted(files) for row in read_rows(file)]


def read_rows(file: Location) -> list[Row]:
    """The rows of a Parquet file of trials. Raises UserError if it is damaged."""
    with open_parquet(file) as parquet:
        try:
            check_memory(parquet, parquet.schema_arrow.names, file=file, as_dictionaries=True)
            # Columns that an older version of Longtail did not write are null.
            table = pa.concat_tables([TRIAL_SCHEMA.empty_table(), parquet.read()], promote_options="default")
            rows = table.select(TRIAL_SCHEMA.names).to_pylist()
            return [{**row, "levels": dict(row["levels"]), "versions": dict(row["versions"])} for row in rows]
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise damaged(file, error) from None


def write_definition(results_dir: Location, experiment: Experiment, *, name: str) -> None:
    """Keep the experiment beside its results, for the report."""
    write_json_atomically(_definition_file(results_dir, name), redacted_values(experiment.model_dump(mode="json")))


def read_definition(results_dir: Location, name: str) -> Experiment:
    """The experiment that write_definition kept. Raises UserError if no experiment of this name ran."""
    file = _definition_file(results_dir, name)
    if not file.exists():
        names = sorted(other.stem for other in file.parent.glob("[!.]*.json"))
        known = f"there are {', '.join(names)}" if names else f"run `longtail experiment {name}` first"
        raise UserError(f"{results_dir} has no experiment {name}{did_you_mean(name, names)}: {known}")
    return read_experiment(file)


def _definition_file(results_dir: Location, name: str) -> Location:
    return results_dir / DEFINITIONS_DIRECTORY / f"{name}.json"


def write_step_time(results_dir: Location, time: StepTime) -> None:
    """Record how long a step took."""
    write_json_atomically(results_dir / TIMES_DIRECTORY / f"{time.step_id}.json", dataclasses.asdict(time))


def read_step_times(results_dir: Location) -> dict[str, StepTime]:
    """Times of all steps that ran so far, by step_id. Raises UserError if a file is damaged."""
    times = map(_step_time, (results_dir / TIMES_DIRECTORY).glob("[!.]*.json"))
    return {time.step_id: time for time in times}


def _step_time(file: Location) -> StepTime:
    try:
        time = StepTime(**finite_json(read_regular_text(file)))
        if not isinstance(time.step_id, str) or not isinstance(time.seconds, int | float):
            raise TypeError("a field has another type")
        return time
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())[:200]}): delete it") from None
