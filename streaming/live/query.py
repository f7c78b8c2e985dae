"""The live query: metric events as they come, into result tables that are always up to date.

    query = start_live_query(spark, file_lines(spark, events_dir), tables_dir=..., trigger="1 second")
    table = read_table(tables_dir, "epochs")      # streaming/tables/store.py, in this process or any other

Each micro-batch of lines goes to the keeper of the tables (streaming/live/keeper.py),
which works out what changes. The query's checkpoint lies beside the tables:
started again it goes on where it was stopped or killed, and events that come
twice count once.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery
from pyspark.sql.streaming.listener import StreamingQueryProgress

from longtail.conf.alerts import AlertRules, read_alert_rules
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.lines import LINE, SOURCE
from longtail.streaming.tables.store import list_runs

CHECKPOINT_DIRECTORY = "checkpoint"
MAX_BYTES_A_BATCH = 64 << 20
"""What waits when the query starts comes in pieces of this size, so that memory is bounded."""

OWN_SETTINGS = {
    # Event batches are small: one task beats the start-up of many, and a plan fixed at once beats one found in stages.
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    # The checkpoint is on this machine, where Spark's other way starts some 30 processes (readlink, chmod) a batch.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    # The files of a batch are known: to look at each is not worth tasks of their own.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000000",
    # Few pieces, none so large that the JVM moves it about.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
}


def file_lines(spark: SparkSession, events_dir: Path) -> DataFrame:
    """The lines of all event files as a streaming DataFrame; the directory is made if it is not there."""
    events_dir.mkdir(parents=True, exist_ok=True)
    lines = (
        spark.readStream.format("text")
        .option("pathGlobFilter", "*.jsonl")
        # A step event's file goes when its epoch is told whole.
        .option("ignoreMissingFiles", True)
        .option("maxBytesPerTrigger", MAX_BYTES_A_BATCH)
        # Files brought from another machine may keep old dates; they count all the same.
        .option("maxFileAge", "3650d")
        .load(str(events_dir.absolute()))
    )
    return lines.select(F.col("value").alias(LINE), F.col("_metadata.file_path").alias(SOURCE))


class LiveQuery:
    """The running query, with the names of Spark's own; when it ends, others may keep its tables."""

    def __init__(self, query: StreamingQuery, keeper: TableKeeper, in_batch: Lock) -> None:
        self._query, self._keeper, self._in_batch = query, keeper, in_batch

    @property
    def isActive(self) -> bool:
        return self._query.isActive

    @property
    def lastProgress(self) -> StreamingQueryProgress | None:
        return self._query.lastProgress

    def exception(self) -> StreamingQueryException | None:
        return self._query.exception()

    def processAllAvailable(self) -> None:
        self._query.processAllAvailable()

    def awaitTermination(self) -> None:
        try:
            self._query.awaitTermination()
        finally:
            if not self._query.isActive:
                self._keeper.close()

    def stop(self) -> None:
        """Ends the query after the batch that is under way: an interrupted one fills the terminal with its trace."""
        with self._in_batch:
            self._query.stop()
        self._keeper.close()


def start_live_query(
    spark: SparkSession,
    read_lines: Callable[[SparkSession], DataFrame],
    *,
    tables_dir: Path,
    trigger: str | None,
    rules: AlertRules | None = None,
    on_update: Callable[[list[str]], None] = lambda runs: None,
) -> LiveQuery:
    """Start the query; trigger as Spark spells it ("1 second"), or None to process what is there and end.

    read_lines: makes the streaming DataFrame of lines (value, source) in a session of the query's own
    rules: when to raise an alert; None: longtail's own (conf/alerts.yaml)
    on_update: called with all runs at the start, then after each batch with the names of those whose tables have
    changed; for a batch that was cut short by a kill it is called again

    Raises UserError if another process keeps these tables.
    """
    own_session = spark.newSession()
    for key, value in OWN_SETTINGS.items():
        own_session.conf.set(key, value)
    keeper = TableKeeper(own_session, tables_dir, rules or read_alert_rules())
    when = {"availableNow": True} if trigger is None else {"processingTime": trigger}

    in_batch = Lock()

    def process(batch: DataFrame, batch_id: int) -> None:
        if not in_batch.acquire(blocking=False):
            raise InterruptedError("the query is being stopped")
        try:
            on_update(keeper.update(batch.toArrow(), batch_id=batch_id))
        finally:
            in_batch.release()

    try:
        on_update(list_runs(tables_dir))
        query = (
            read_lines(own_session)
            .writeStream.option("checkpointLocation", str(tables_dir.absolute() / CHECKPOINT_DIRECTORY))
            .trigger(**when)
            .queryName("longtail live view")
            .foreachBatch(process)
            .start()
        )
    except BaseException:
        keeper.close()
        raise
    return LiveQuery(query, keeper, in_batch)
