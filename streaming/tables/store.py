"""The tables of the live query as Parquet files, and the one way to read them. No Spark here.

    table = read_table(tables_dir, "epochs", run="base")   # a pyarrow.Table; of all runs without run=
    runs = list_runs(tables_dir)

TABLES has the schema of each:

- runs: a row a run: where it stands; status is running, finished or failed
- class_epochs: a row a run, split, epoch and class
- epochs: a row a run, split and epoch
- confusion: the cells that are not zero, of the latest epoch of each run and split
- pseudo_labels: a row a run that labelled, round and class
- unlabeled: a row a run that labelled and round: what its pseudo-labels say of the unlabeled part
- steps: how learning goes inside the epochs
- alerts: which runs need a look
- quarantine: lines that were no events, and why

On disk a run has a directory, tables_dir/runs/NAME/, with a manifest.json that
names the Parquet files of each table, in segments of so many epochs. An update
writes new files, then replaces the manifest, then removes what no manifest names:
a reader sees the run's tables of one moment or the next, whenever the writer is
killed, and an update costs as much as the segments that it changes, not as the
run is long. An update that is repeated changes nothing.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically, write_text_atomically
from longtail.streaming.events.schema import RUN_NAME

TABLES_DIRECTORY = "analytics"
"""In the directory of the runs, where the tables are unless something else is said."""
RUNNING, DONE, BROKEN = "running", "finished", "failed"

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


TABLES: dict[str, pa.Schema] = {
    "runs": _schema(
        run=_TEXT, attempt=_WHOLE, phase=_TEXT, status=_TEXT, started_at=_REAL, updated_at=_REAL, epoch=_WHOLE,
        num_epochs=_WHOLE, configuration=_TEXT, message=_TEXT, state_at=_REAL,
    ),
    "class_epochs": _schema(
        run=_TEXT, phase=_TEXT, split=_TEXT, epoch=_WHOLE, num_epochs=_WHOLE, class_id=_WHOLE, class_name=_TEXT,
        shot_group=_TEXT, train_count=_WHOLE, pseudo_label_count=_WHOLE, support=_WHOLE, correct=_WHOLE,
        predicted=_WHOLE, accuracy=_REAL, precision=_REAL, f1=_REAL, change=_REAL, best_accuracy=_REAL,
        true_share=_REAL, predicted_share=_REAL, mean_confidence=_REAL, calibration_gap=_REAL, loss_sum=_REAL,
        confidence_sum=_REAL, epoch_seconds=_REAL, images_per_second=_REAL, attempt=_WHOLE, emitted_at=_REAL,
    ),
    "epochs": _schema(
        run=_TEXT, phase=_TEXT, split=_TEXT, epoch=_WHOLE, num_epochs=_WHOLE, accuracy=_REAL, balanced_accuracy=_REAL,
        best_balanced_accuracy=_REAL, many_shot_accuracy=_REAL, medium_shot_accuracy=_REAL, few_shot_accuracy=_REAL,
        head_tail_gap=_REAL, label_bias=_REAL, calibration_gap=_REAL, loss=_REAL, epoch_seconds=_REAL,
        images_per_second=_REAL, emitted_at=_REAL,
    ),
    "confusion": _schema(
        run=_TEXT, split=_TEXT, epoch=_WHOLE, true_class=_WHOLE, predicted_class=_WHOLE, count=_WHOLE,
        attempt=_WHOLE, emitted_at=_REAL,
    ),
    "pseudo_labels": _schema(
        run=_TEXT, round=_WHOLE, previous_run=_TEXT, class_id=_WHOLE, class_name=_TEXT, labelled_count=_WHOLE,
        pseudo_label_count=_WHOLE, mean_confidence=_REAL, confidence_p10=_REAL, confidence_p50=_REAL,
        confidence_p90=_REAL, emitted_at=_REAL,
    ),
    "unlabeled": _schema(
        run=_TEXT, round=_WHOLE, num_pseudo_labels=_WHOLE, rho=_REAL, rho_pseudo_labels=_REAL, rho_unlabeled=_REAL,
        mean_confidence=_REAL, expected_confidence=_REAL, histogram_divergence=_REAL,
    ),
    "steps": _schema(
        run=_TEXT, phase=_TEXT, epoch=_WHOLE, step=_WHOLE, num_steps=_WHOLE, loss=_REAL, accuracy=_REAL,
        images_per_second=_REAL, attempt=_WHOLE, emitted_at=_REAL,
    ),
    "alerts": _schema(run=_TEXT, split=_TEXT, epoch=_WHOLE, rule=_TEXT, message=_TEXT),
    "quarantine": _schema(reason=_TEXT, line=_TEXT, source=_TEXT),
}  # fmt: skip

IN_MANIFEST = ("runs", "alerts")
"""Tables of a few rows a run, kept in its manifest."""
BY_EPOCH = ("class_epochs", "epochs", "steps")
"""Tables that grow with the epochs, kept in segments."""

QUARANTINE = "quarantine"
"""The table that belongs to no run."""

_FORMAT = 1
_MANIFEST = "manifest.json"
_RULES = "rules.json"
_READ_TRIES = 50


@dataclass
class RunManifest:
    """What a run's tables are made of.

    segment_epochs: epochs of a segment, per table of BY_EPOCH
    files: per table, the file of each segment ("0", "1", ... or "all")
    rows: per table of IN_MANIFEST, its rows
    """

    run: str
    segment_epochs: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def segment_of(self, name: str, epoch: int) -> int:
        return epoch // self.segment_epochs[name]


def list_runs(tables_dir: Path) -> list[str]:
    """Names of all runs that the tables know."""
    # A directory without a manifest is a run whose first update was cut short.
    return sorted(file.parent.name for file in tables_dir.glob(f"runs/*/{_MANIFEST}"))


def read_table(
    tables_dir: Path,
    name: str,
    run: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    now: float | None = None,
) -> pa.Table:
    """A table (see TABLES), of one run or of all; empty if nothing is known of it.

    columns: only these
    now: seconds since 1970-01-01 UTC up to which `alerts` judges whether a run is silent; by default the present
    """
    schema = TABLES[name]
    if name == QUARANTINE:
        assert run is None, "a line that is no event belongs to no run"
        parts = [_read_file(file, name, columns) for file in quarantine_files(tables_dir)]
    else:
        runs = list_runs(tables_dir) if run is None else [run]
        parts = [part for one in runs for part in read_parts(tables_dir, name, one, columns=columns).values()]
        if name == "alerts":
            silent = _silent_runs(tables_dir, runs, time.time() if now is None else now)
            parts.append(silent.select(columns or silent.column_names))
    # In one piece: createDataFrame reads nothing after a chunk that is empty.
    empty = schema.empty_table().select(columns or schema.names)
    return pa.concat_tables([empty, *parts]).combine_chunks()


def latest_epochs(table: pa.Table) -> pa.Table:
    """Of class_epochs or epochs, each run and split at its latest epoch."""
    last = table.group_by(["run", "split"]).aggregate([("epoch", "max")]).rename_columns(["run", "split", "epoch"])
    return table.join(last, keys=["run", "split", "epoch"], join_type="inner").select(table.column_names)


def read_parts(
    tables_dir: Path,
    name: str,
    run: str,
    *,
    columns: Sequence[str] | None = None,
    known: Mapping[str, pa.Table] = MappingProxyType({}),
) -> dict[str, pa.Table]:
    """A run's rows of a table, by the name of the file that has them; none of a run that is not known.

    known: what was read before; a file never changes, so that it is not read again
    """
    schema = TABLES[name]
    for _ in range(_READ_TRIES):
        manifest = read_manifest(tables_dir, run)
        if manifest is None:
            return {}
        if name in IN_MANIFEST:
            rows = pa.Table.from_pylist(manifest.rows.get(name, []), schema=schema)
            return {_MANIFEST: rows.select(columns or schema.names)}
        directory, files = run_directory(tables_dir, run), manifest.files.get(name, {}).values()
        try:
            return {
                file: known[file] if file in known else _read_file(directory / file, name, columns) for file in files
            }
        except FileNotFoundError:
            continue  # replaced since the manifest was read
    raise RuntimeError(f"the tables of {run} in {tables_dir} change faster than they can be read")


def _read_file(file: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    return pq.read_table(file, schema=TABLES[name], columns=list(columns) if columns is not None else None)


def read_segments(tables_dir: Path, manifest: RunManifest, name: str, segments: Iterable[str]) -> pa.Table:
    """These segments of one table, for who keeps the tables: nobody else changes them meanwhile."""
    directory, files = run_directory(tables_dir, manifest.run), manifest.files.get(name, {})
    parts = [_read_file(directory / files[s], name) for s in segments if s in files]
    return pa.concat_tables([TABLES[name].empty_table(), *parts])


def run_directory(tables_dir: Path, run: str) -> Path:
    """Raises ValueError if a run cannot have this name: no name leads out of the tables."""
    if not RUN_NAME.fullmatch(run):
        raise ValueError(f"{run!r} is no name of a run")
    return tables_dir / "runs" / run


def read_manifest(tables_dir: Path, run: str) -> RunManifest | None:
    try:
        content = json.loads((run_directory(tables_dir, run) / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    assert content.pop("format") == _FORMAT
    return RunManifest(**content)


def manifest_mark(tables_dir: Path, run: str) -> tuple[int, int] | None:
    """What changes whenever the run's tables do; None if there are none."""
    try:
        found = (run_directory(tables_dir, run) / _MANIFEST).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def write_run(
    tables_dir: Path,
    manifest: RunManifest,
    segments: Mapping[str, Mapping[str, pa.Table]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
) -> RunManifest:
    """Replace segments of a run's tables and its rows of IN_MANIFEST, all at once; the new manifest."""
    directory = run_directory(tables_dir, manifest.run)
    files = {name: dict(of_table) for name, of_table in manifest.files.items()}
    for name, of_table in segments.items():
        for segment, table in of_table.items():
            file = f"{name}-{segment}-{uuid.uuid4().hex[:8]}.parquet"
            whole = table.select(TABLES[name].names).cast(TABLES[name])
            write_atomically(directory / file, _parquet_writer(whole))
            files.setdefault(name, {})[segment] = file
    new = RunManifest(
        run=manifest.run,
        segment_epochs=manifest.segment_epochs,
        files=files,
        rows={**manifest.rows, **{name: list(map(dict, of_table)) for name, of_table in rows.items()}},
    )
    write_text_atomically(directory / _MANIFEST, json.dumps({"format": _FORMAT, **vars(new)}))
    named = {file for of_table in files.values() for file in of_table.values()} | {_MANIFEST}
    for file in directory.iterdir():
        if file.name not in named:
            file.unlink()
    return new


def write_quarantine(tables_dir: Path, batch_id: int, lines: pa.Table) -> None:
    """The bad lines of a micro-batch; written again for the same batch, they are there once."""
    schema = TABLES[QUARANTINE]
    file = tables_dir / QUARANTINE / f"batch-{batch_id:09d}.parquet"
    write_atomically(file, _parquet_writer(lines.select(schema.names).cast(schema)))


def quarantine_files(tables_dir: Path) -> list[Path]:
    """A file a micro-batch that had bad lines."""
    return sorted((tables_dir / QUARANTINE).glob("*.parquet"))


def write_silence_rule(tables_dir: Path, seconds: float | None) -> None:
    """After how long without an event a run counts as silent; None: never. Kept for the readers, who judge it."""
    write_text_atomically(tables_dir / _RULES, json.dumps({"run_silent_seconds": seconds}))


def _parquet_writer(table: pa.Table) -> Callable[[Path], None]:
    return lambda file: pq.write_table(table, file, compression="zstd")


def _silent_runs(tables_dir: Path, runs: Sequence[str], now: float) -> pa.Table:
    """An alert for each run that neither ended nor was heard of for too long.

    This is judged when it is read, not when an event comes: silence is what brings no event.
    """
    seconds = None
    with contextlib.suppress(FileNotFoundError):
        seconds = json.loads((tables_dir / _RULES).read_text(encoding="utf-8"))["run_silent_seconds"]
    found = []
    for run in runs if seconds is not None else ():
        for row in [row for part in read_parts(tables_dir, "runs", run).values() for row in part.to_pylist()]:
            quiet = now - row["updated_at"]
            if row["status"] == RUNNING and quiet > seconds:
                message = f"no event for {quiet:.0f} s"
                found.append({**row, "split": "", "rule": "run_silent", "message": message})
    return pa.Table.from_pylist(
        [{name: row[name] for name in TABLES["alerts"].names} for row in found], schema=TABLES["alerts"]
    )


def rows_where(table: pa.Table, **equal: Any) -> pa.Table:
    """The rows whose columns have these values."""
    for name, value in equal.items():
        table = table.filter(pc.field(name) == value)
    return table
