"""The names of event files as a source of Structured Streaming: a row for each new file, wherever its directory is.

    frame = event_file_names(spark, events_dir, state_dir)      # directory, file
    lines = file_lines(spark, events_dir, state_dir)            # value, source

Spark's own file sources keep the absolute path of every file that they have ever read, choose files by their dates, and
look at each of them at each trigger. This one compares the names that are there with those it has passed on, and
forgets names that have gone: neither its state nor the cost of a look grows while processed files are archived. An
archive is passed on unless all that is in it was passed on before.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.types import StructType

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import file_names
from longtail.streaming.parsing.lines import LINE, SOURCE

DIRECTORY, FILE = "directory", "file"
FORMAT = "longtail_event_files"
STATE_SETTING = "longtail.event_files.state"
"""Setting of a session: the directory for the state of its queries, if event_file_names is given none."""


def event_file_names(spark: SparkSession, events_dir: Location, state_dir: Location | None = None) -> DataFrame:
    """The names of event files as a streaming DataFrame (directory, file), both bytes. Creates the directory.

    state_dir: directory of one query's state, best its checkpoint; None: that of the session (STATE_SETTING) or none,
        and then a query that is restarted gets all files again

    Raises UserError if the directory has a pipe, a socket or a device, or cannot be created.
    """
    try:
        events_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {events_dir}: {error.strerror or error}") from None
    for name in file_names(events_dir) if isinstance(events_dir, Path) else []:
        file = events_dir / name
        if file.exists() and not file.is_file():
            raise UserError(f"{file} is not a regular file: remove it")
    if state_dir is None and (of_session := spark.conf.get(STATE_SETTING, None)):
        state_dir = Path(of_session)
    name = _registered(spark, events_dir.absolute(), state_dir and state_dir.absolute())
    return spark.readStream.format(name).load()


def _registered(spark: SparkSession, events_dir: Location, state_dir: Location | None) -> str:
    """A name of the source in this session: one that another session has registered can neither be used nor taken.

    The directories are a part of the class, and no options, as Spark shows these: what reaches a store goes with them.
    """
    unique = f"{FORMAT}_{uuid.uuid4().hex}"
    own = {"name": classmethod(lambda cls: unique), "events_dir": events_dir, "state_dir": state_dir}
    spark.dataSource.register(type("EventFileSource", (EventFileSource,), own))
    return unique


def file_lines(spark: SparkSession, events_dir: Location, state_dir: Location | None = None) -> DataFrame:
    """The events of all files as a streaming DataFrame of lines (value, source); of columns, the lines they would be.

    Parameters and errors: those of event_file_names.
    """
    names = event_file_names(spark, events_dir, state_dir)
    lines = names.mapInArrow(partial(_lines, events_dir.absolute()), f"{LINE} BINARY, {SOURCE} STRING")
    return lines.select(F.col(LINE).cast("string").alias(LINE), SOURCE)


def names_of_batch(checkpoint: Path, batch_id: int) -> list[str]:
    """The names that a micro-batch of event_file_names has, from the log of offsets, where Spark writes them before the
    batch begins: without a Spark job.

    checkpoint: directory of the query's checkpoint
    """
    text = (checkpoint / "offsets" / str(batch_id)).read_text(encoding="utf-8")
    return json.loads(text.splitlines()[-1])["files"]


def _lines(events_dir: Location, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([(LINE, pa.binary()), (SOURCE, pa.string())])
    for batch in batches:
        for piece in read_event_files(events_dir, map(os.fsdecode, batch[FILE].to_pylist())):
            lines = piece.as_lines()
            values = pa.chunked_array([chunk.view(pa.binary()) for chunk in lines[LINE].chunks], pa.binary())
            yield from pa.table([values, lines[SOURCE]], schema=schema).to_batches()


class EventFileSource(DataSource):
    """Spark's side of the source."""

    events_dir: ClassVar[Location]
    state_dir: ClassVar[Location | None]

    @classmethod
    def name(cls) -> str:
        """The name of the source."""
        return FORMAT

    def schema(self) -> str:
        """Names may have any bytes."""
        return f"{DIRECTORY} BINARY, {FILE} BINARY"

    def simpleStreamReader(self, schema: StructType) -> "EventFileReader":
        """The reader of new names."""
        return EventFileReader(self.events_dir, self.state_dir)


class EventFileReader(SimpleDataSourceStreamReader):
    """An offset has the number of the batch and the names in it: they are in Spark's log before the batch begins.

    The offset of another source, which an older version of Longtail has left, has none: all files are new.
    """

    def __init__(self, events_dir: Location, state_dir: Location | None) -> None:
        self._directory = os.fsencode(str(events_dir))
        self._new = NewFiles(events_dir, state_dir)
        self._available: list[str] | None = None

    def prepareForTriggerAvailableNow(self) -> None:
        """From now on, read what is there now and nothing else."""
        self._available = self._new.look()

    def initialOffset(self) -> dict[str, Any]:
        """The offset before the first batch."""
        return {"batch": 0, "files": []}

    def read(self, start: dict[str, Any]) -> tuple[Iterator[tuple[bytes, bytes]], dict[str, Any]]:
        """The names of new files, and the offset after them."""
        # After a restart these may be missing in the log, as the batch may have been the last.
        started = start.get("files", [])
        self._new.add(started)
        if self._available is None:
            files = self._new.look()
        else:
            # Without those of a batch that a killed query had begun, and that was repeated first.
            files, self._available = sorted({*self._available} - {*started}), []
        if not files:
            return iter(()), start
        end = {"batch": start.get("batch", 0) + 1, "files": files}
        return self.readBetweenOffsets(start, end), end

    def readBetweenOffsets(self, start: dict[str, Any], end: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        """The names of a batch, again."""
        return iter([(self._directory, os.fsencode(name)) for name in end.get("files", [])])

    def commit(self, end: dict[str, Any]) -> None:
        """Remember the names of a batch that is done."""
        self._new.log(end.get("files", []))


GOES_ON_AFTER_REPEATING = False
"""Whether a query that processes what is there and ends does so after it has repeated a batch that a killed one had
begun. Before Spark 4.2 it only repeats the batch (streaming/live/starting.py)."""
with suppress(ImportError):
    from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow

    SupportsTriggerAvailableNow.register(EventFileReader)
    GOES_ON_AFTER_REPEATING = True
