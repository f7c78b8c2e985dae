"""The queries of the keeper of the tables that are Spark's: alerts, and derived tables.

Each is one Spark action over a plan that is made once, when it is first needed (streaming/live/prepared.py). The other
tables are computed by Arrow and numpy (streaming/kernels/).
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from longtail.streaming.alerts.query import find_alerts
from longtail.streaming.alerts.rules import AlertRules, AlertTables
from longtail.streaming.derived import DERIVED_TABLES
from longtail.streaming.live.prepared import PreparedQuery
from longtail.streaming.tables.schemas import TABLES

ALERTS = "alerts"
ALERT_SOURCES = tuple(AlertTables.__dataclass_fields__)


class KeeperQueries:
    """Computes a table from others; thread-safe.

    directory: for the files that pass these to Spark; nothing else may be in it
    """

    def __init__(self, spark: SparkSession, directory: Path, rules: AlertRules) -> None:
        self._spark, self._directory, self._rules = spark, directory, rules
        self._prepared, self._lock = cache(self._prepare), Lock()

    def __call__(self, name: str, **sources: Sequence[pa.Table]) -> pa.Table:
        """The table of this name from its sources, each given as a sequence of tables to concatenate."""
        with self._lock:
            return self._prepared(name)(**sources).cast(TABLES[name])

    def run_on_nothing(self, *names: str) -> None:
        """Run these queries, by default all, on empty tables."""
        for name in names or (ALERTS, *DERIVED_TABLES):
            with self._lock:
                self._prepared(name).run_on_nothing()

    def wait(self) -> None:
        """Wait until no query runs."""
        self._lock.acquire()
        self._lock.release()

    def _prepare(self, name: str) -> PreparedQuery:
        query, sources = (self._find_alerts, ALERT_SOURCES) if name == ALERTS else _derived(name)
        schemas = {source: TABLES[source] for source in sources}
        return PreparedQuery(self._spark, query, schemas, directory=self._directory / name)

    def _find_alerts(self, **tables: DataFrame) -> DataFrame:
        return find_alerts(AlertTables(**tables), self._rules)


def _derived(name: str) -> tuple[Callable[..., DataFrame], tuple[str, ...]]:
    table = DERIVED_TABLES[name]
    return lambda **sources: table.query(*(sources[source] for source in table.sources)), table.sources
