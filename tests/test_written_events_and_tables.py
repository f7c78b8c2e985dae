"""Events and result tables that version 0.2 wrote are read by this version, with the values they had."""

import math
import shutil
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.schema import ClassEvent, event_line
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.parsing.fast_lines import read_fast_lines
from longtail.streaming.tables.delta import DeltaTables
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES
from tests.analytics import assert_tables_are_those_of_all_lines
from tests.conftest import REPOSITORY
from tests.events import an_event, line_frame

WRITTEN = REPOSITORY / "tests" / "written_by_0.2"
EVENTS, TABLES_DIR = WRITTEN / "events", WRITTEN / "tables"


def rows(tables_dir: Path, name: str) -> list[dict[str, Any]]:
    order = [key for key in ("epoch", "class_id") if key in TABLES[name].names]
    found = read_result_table(tables_dir, name, "base", now=-math.inf).to_pylist()
    return sorted(found, key=lambda row: [row[key] for key in order])


def test_all_written_events_are_read_by_the_fast_reader() -> None:
    lines = [line for file in sorted(EVENTS.iterdir()) for line in file.read_text().splitlines()]
    table = pa.table({"value": lines, "source": ["a file"] * len(lines)})

    events, others = read_fast_lines(table)

    assert others.num_rows == 0
    counts = {kind: table.num_rows for kind, table in events.items()}
    assert counts == {"class": 4, "confusion": 2, "step": 2, "run": 4, "pseudo_labels": 2}
    assert events["class"]["correct"].to_pylist() == [3, 0, 4, 1]
    assert events["pseudo_labels"]["mean_confidence"].to_pylist() == [0.9, None]
    assert events["run"]["state"].to_pylist() == ["epoch_done", "epoch_done", "finished", "started"]


def test_written_tables_have_their_values() -> None:
    assert list_runs(TABLES_DIR) == ["base"]
    (run,) = rows(TABLES_DIR, "runs")
    assert (run["status"], run["epoch"], run["num_epochs"], run["updated_at"]) == ("finished", 2, 2, 1003.0)
    classes = rows(TABLES_DIR, "class_epochs")
    assert [row["accuracy"] for row in classes] == [3 / 4, 0 / 2, 4 / 4, 1 / 2]
    assert [row["accuracy_change"] for row in classes] == [None, None, 1 / 4, 1 / 2]
    assert [row["predicted_share"] for row in classes] == [1, 0, 5 / 6, 1 / 6]
    epochs = rows(TABLES_DIR, "epochs")
    assert [row["balanced_accuracy"] for row in epochs] == [3 / 8, 3 / 4]
    assert [row["head_tail_gap"] for row in epochs] == [3 / 4, 1 / 2]
    assert [(row["true_class"], row["predicted_class"], row["count"]) for row in rows(TABLES_DIR, "confusion")] == [
        (1, 0, 1)
    ]
    assert [row["loss"] for row in rows(TABLES_DIR, "steps")] == [0.5, 0.25]
    assert [row["pseudo_label_count"] for row in rows(TABLES_DIR, "pseudo_labels")] == [90, 0]
    (estimate,) = rows(TABLES_DIR, "unlabeled_estimates")
    assert (estimate["rho"], estimate["rho_pseudo_labels"]) == (10, math.inf)


def test_a_written_delta_table_has_the_same_rows_and_says_its_version() -> None:
    table = deltalake.DeltaTable(str(TABLES_DIR / "delta" / "epochs"))

    assert table.metadata().description == "longtail result table, format version 1"
    found = pa.table(table.to_pyarrow_table())
    known = [{name: row[name] for name in found.column_names} for row in rows(TABLES_DIR, "epochs")]
    assert sorted(found.to_pylist(), key=lambda row: row["epoch"]) == known


def test_a_written_delta_table_gets_the_columns_of_later_versions(tmp_path: Path) -> None:
    tables_dir = Path(shutil.copytree(TABLES_DIR, tmp_path / "tables"))
    DeltaTables(tables_dir, tables_dir / "delta").update(["base"])
    DeltaTables(tables_dir, tables_dir / "delta").update(["base"])

    table = deltalake.DeltaTable(str(tables_dir / "delta" / "epochs"))
    assert {field.name for field in table.schema().fields} == set(TABLES["epochs"].names)
    assert pa.table(table.to_pyarrow_table())["learning_rate"].to_pylist() == [None, None]


@pytest.mark.long
def test_the_live_query_continues_written_tables(spark: SparkSession, tmp_path: Path) -> None:
    tables_dir = Path(shutil.copytree(TABLES_DIR, tmp_path / "tables"))
    events_dir = Path(shutil.copytree(EVENTS, tmp_path / "events"))
    third = [
        an_event(ClassEvent, epoch=3, class_id=c, class_name=("head", "tail")[c], support=(4, 2)[c], correct=2)
        for c in (0, 1)
    ]
    (events_dir / "third.jsonl").write_text("".join(f"{event_line(event)}\n" for event in third))
    keeper = TableKeeper(spark, tables_dir, read_alert_rules())
    try:
        keeper.update(line_frame(spark, third).toArrow())
    finally:
        keeper.close()

    assert [row["accuracy_change"] for row in rows(tables_dir, "class_epochs")[4:]] == [1 / 2 - 1, 1 - 1 / 2]
    # Columns that the first 0.2 did not write are null in its rows.
    added = ("accuracy_low", "accuracy_high")
    assert [row[name] is None for row in rows(tables_dir, "class_epochs") for name in added] == [True] * 8 + [False] * 4
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir, without=added)
