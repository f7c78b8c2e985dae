"""The keeper's tables are those that plain Python makes of all events, whatever the order and the batches. No Spark."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.derived import DERIVED_TABLES
from longtail.streaming.event_files.reading import EventPiece
from longtail.streaming.events.columns import EVENT_COLUMNS
from longtail.streaming.events.schema import Event
from longtail.streaming.live import run_update
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.columns import ARCHIVED_SOURCE
from longtail.streaming.tables.manifest import list_runs, read_run_manifest
from longtail.streaming.tables.reading import latest_epochs, read_parts, read_result_table
from longtail.streaming.tables.schemas import LATEST_EPOCHS, TABLES
from tests.analytics import assert_tables_are_those_of_all_events, rounded
from tests.arrow_tables import arrow_tables
from tests.histories import histories

RULES = AlertRules.model_validate(
    {
        **read_alert_rules().model_dump(),
        "tail_falling": {"epochs": 1},
        "gap_widening": {"epochs": 1},
        "plateau": {"epochs": 2, "gain": 0.5},
    }
)
"""Alerts that look at few earlier epochs, which are in several segments."""


def keep(tables_dir: Path, batches: list[list[Event]], *, segment_rows: int, segment_epochs: int) -> None:
    """Update tables by the batches."""
    spark = SparkSession.__new__(SparkSession)  # nothing here asks it for anything
    with (
        patch.object(run_update, "SEGMENT_ROWS", segment_rows),
        patch.object(run_update, "SEGMENT_EPOCHS", {"epochs": segment_epochs, "steps": segment_epochs}),
    ):
        keeper = TableKeeper(spark, tables_dir, RULES)
        for batch in batches:
            rows = pa.Table.from_pylist([asdict(event) for event in batch], schema=EVENT_COLUMNS)
            rows = rows.append_column(ARCHIVED_SOURCE, pa.repeat("events.parquet", rows.num_rows))
            lines = LINE_SCHEMA.empty_table()
            keeper.update(lines, [EventPiece("events.parquet", rows, lines)])
        keeper.close()


def keep_in_any_way(tables_dir: Path, events: list[Event], data: st.DataObject) -> None:
    """Update tables by the events in any order, repeated, and cut into batches and segments of any size."""
    order = data.draw(st.permutations(events)) if data.draw(st.booleans()) else events
    order = [*order, *data.draw(st.lists(st.sampled_from(events), max_size=20))]
    cuts = sorted(data.draw(st.lists(st.integers(1, len(order) - 1), max_size=5, unique=True)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    again = data.draw(st.integers(0, len(batches) - 1))
    batches.insert(again, batches[again])  # as after a kill between the tables and the checkpoint
    size = {"segment_rows": data.draw(st.sampled_from([1, 12, 1000])), "segment_epochs": data.draw(st.integers(1, 3))}
    keep(tables_dir, batches, **size)


@settings(max_examples=25, deadline=None)
@given(events=histories(), data=st.data())
def test_manifests_have_the_latest_epochs_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    tables_dir = tmp_path_factory.mktemp("tables")
    keep_in_any_way(tables_dir, events, data)
    for run in list_runs(tables_dir):
        manifest = read_run_manifest(tables_dir, run)
        latest = latest_epochs(read_result_table(tables_dir, "epochs", run)).to_pylist()
        assert manifest and by_split(manifest.rows.get(LATEST_EPOCHS, [])) == by_split(latest)
        (found,) = read_parts(tables_dir, LATEST_EPOCHS, run).values()
        assert by_split(found.to_pylist()) == by_split(latest)


def by_split(rows: list[dict[str, Any]]) -> str:
    """As text, in which NaN is NaN."""
    return repr(sorted(rows, key=lambda row: row["split"]))


@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(events=histories(), data=st.data())
def test_any_order_repetition_and_cutting_into_batches_gives_the_tables_of_the_definitions(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    tables_dir = tmp_path_factory.mktemp("tables")
    keep_in_any_way(tables_dir, events, data)
    assert_tables_are_those_of_all_events(tables_dir, events)
    whole = arrow_tables(events, RULES)
    for name in (*DERIVED_TABLES, "alerts"):
        found = read_result_table(tables_dir, name, now=-math.inf).to_pylist()
        assert rounded(found, TABLES[name].names) == rounded(whole[name].to_pylist(), TABLES[name].names), name
    assert not read_result_table(tables_dir, "quarantine").num_rows
