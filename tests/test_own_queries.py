"""Queries of a user's own beside the live query: as the documentation shows them, with restarts, and when they fail."""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.errors import UserError
from longtail.streaming import queries, table_queries
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.event_files.source import file_lines
from longtail.streaming.events.schema import ClassEvent, event_line
from longtail.streaming.live.event_stream import event_stream
from longtail.streaming.live.own_queries import load_queries
from longtail.streaming.live.running_queries import start_queries
from longtail.streaming.tables.deletions import write_deletion_times
from longtail.streaming.tables.query_rows import ALERTS, TABLE, read_query_rows
from longtail.streaming.tables.reading import read_result_table
from tests.browser import wait_until
from tests.conftest import REPOSITORY, RunJob
from tests.events import class_event
from tests.refusals import refused

HOUR = 1_800_000_000.0  # 2027-01-15 08:00 UTC


def documented(beginning: str) -> str:
    """The Python example of docs/analytics.md that begins so."""
    text = (REPOSITORY / "docs" / "analytics.md").read_text()
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if beginning in block]
    return found


def write(events_dir: Path, name: str, *events: ClassEvent | str) -> None:
    events_dir.mkdir(parents=True, exist_ok=True)
    lines = [event if isinstance(event, str) else event_line(event) for event in events]
    (events_dir / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))


def tail(**changes: object) -> ClassEvent:
    return class_event(**{"class_id": 2, "class_name": "rare", "shot_group": "few", "num_epochs": 9, **changes})


def hourly(tables_dir: Path) -> set[tuple[str, datetime, float]]:
    rows = read_query_rows(tables_dir, "tail").to_pylist()
    return {(row["run"], row["hour"].astimezone(UTC), row["accuracy"]) for row in rows}


@pytest.mark.long
def test_the_documented_queries_go_on_after_a_restart_and_tell_each_alert_once(job: RunJob, tmp_path: Path) -> None:
    """Of the rare class 1 of 4 and 2 of 6 images are right in the first hour, and of another run 0 of 4 in the next."""
    events_dir, tables_dir = tmp_path / "runs" / "events", tmp_path / "runs" / "analytics"
    (tmp_path / "tail.py").write_text(documented("def alerts(events"))
    told = tmp_path / "told"
    keep = shlex.join([sys.executable, "-c", f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"])
    command = ["monitor", "--once", "--query", "tail.py", "--notify", keep]
    write(
        events_dir, "first",
        tail(run="a", support=4, correct=1, emitted_at=HOUR),
        tail(run="a", support=6, correct=2, epoch=2, emitted_at=HOUR + 3599),
        tail(run="a", class_id=0, shot_group="many", emitted_at=HOUR),
        tail(run="b", correct=0, epoch=6, emitted_at=HOUR + 3600),
        "no event",
    )  # fmt: skip
    done = job(*command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "alert: b: class rare has no image right (query tail)\n"
    eight, nine = (datetime(2027, 1, 15, hour, tzinfo=UTC) for hour in (8, 9))
    assert hourly(tables_dir) == {("a", eight, 0.3), ("b", nine, 0.0)}

    write(events_dir, "second", tail(run="b", support=4, correct=2, epoch=7, emitted_at=HOUR + 3700))
    assert job(*command).stderr == ""
    assert hourly(tables_dir) == {("a", eight, 0.3), ("b", nine, 2 / 8)}
    assert read_query_rows(tables_dir, "tail", ALERTS)["message"].to_pylist() == ["class rare has no image right"]
    page = page_state(TableReader(tables_dir).read, Selection(run="b")).html["overview"]
    assert "<b>query tail</b> class rare has no image right" in page

    sent = [alert["message"] for line in told.read_text().splitlines() for alert in json.loads(line)["alerts"]]
    assert sent == ["class rare has no image right"]
    assert sorted(read_result_table(tables_dir, "epochs")["epoch"].to_pylist()) == [1, 2, 6, 7]


@pytest.mark.long
def test_a_query_whose_file_changes_starts_anew_from_all_events(job: RunJob, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "events", "first", tail(run="a", correct=0, epoch=6), class_event(run="a"))
    few = documented("def alerts(events")
    for text, accuracy in ((few, 0.0), (few.replace("'few'", "'many'", 1), 0.75)):
        (tmp_path / "tail.py").write_text(text)
        assert job("monitor", "--once", "--query", "tail.py").stderr.startswith("alert: a: ")
        rows = read_query_rows(tmp_path / "runs" / "analytics", "tail").to_pylist()
        assert [row["accuracy"] for row in rows] == [accuracy]


@pytest.mark.long
def test_rows_of_a_deleted_run_go_and_a_new_run_of_its_name_has_its_own(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of run a 1 of 4 images are right before its deletion, and 4 of 4 of the new a; 2 of 4 of b."""
    monkeypatch.chdir(tmp_path)
    Path("tail.py").write_text(documented("def alerts(events"))
    write(
        tmp_path / "events", "first",
        tail(run="a", support=4, correct=1, emitted_at=HOUR), tail(run="b", support=4, correct=2, emitted_at=HOUR),
    )  # fmt: skip

    def wait_for(**accuracy: float) -> None:
        wait_until(lambda: {run: value for run, _, value in hourly(tmp_path)} == accuracy)

    tables = [query for query in load_queries(["tail.py"]) if query.kind == TABLE]
    (table,) = start_queries(
        spark, tables, lambda session, checkpoint: file_lines(session, tmp_path / "events"),
        tables_dir=tmp_path, source="event files", trigger="100 milliseconds", on_alerts=lambda rows: None,
    )  # fmt: skip
    try:
        wait_for(a=1 / 4, b=2 / 4)
        write_deletion_times(tmp_path, {"a": HOUR})
        wait_for(b=2 / 4)
        write(tmp_path / "events", "second", tail(run="a", support=4, correct=4, emitted_at=HOUR + 1))
        wait_for(a=4 / 4, b=2 / 4)
        write_deletion_times(tmp_path, {})  # restored
        wait_for(a=5 / 8, b=2 / 4)
        assert table.isActive
    finally:
        table.stop()


@pytest.mark.long
def test_a_query_that_fails_ends_alone_with_one_line(job: RunJob, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "events", "first", tail(run="a"))
    (tmp_path / "bad.py").write_text(
        "from pyspark.sql import functions as F\n"
        "def table(events):\n"
        "    return events.select(F.raise_error(F.concat(F.lit('no luck with '), 'run')).alias('x'))\n"
    )
    done = job("monitor", "--once", "--query", "bad.py")
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("longtail monitor: error: --query bad.py: table(events) has failed: "), done.stderr
    assert "no luck with a" in last and "Traceback" not in done.stderr
    assert read_result_table(tmp_path / "runs" / "analytics", "epochs").num_rows == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "--query own.py: it defines neither table(events) nor alerts(events)"),
        ("table = 1", "--query own.py: it defines neither table(events) nor alerts(events)"),
        ("import no_such_module", "--query own.py: running it fails: ModuleNotFoundError: No module named 'no_such_mo"),
        ("def table(events:", "--query own.py: running it fails: SyntaxError: "),
        ("raise SystemExit", "--query own.py: running it fails: SystemExit"),
    ],
)
def test_a_file_without_a_query_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(text)
    with refused() as messages:
        load_queries(["own.py"])
    assert messages[0].startswith(message)


def test_names_of_files_are_names_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def table(events): ...")
    for files, message in (
        (["no/such.py"], "--query: cannot read no/such.py: No such file or directory"),
        (["tail by hour.py"], "--query tail by hour.py: a name of letters, digits, _ and - was expected"),
        (["tail.txt"], "--query tail.txt: a name of letters, digits, _ and - was expected, with .py"),
        ([str(tmp_path / "a.py")] * 2, f"--query {tmp_path / 'a.py'}: there are two files a.py"),
    ):
        with refused() as messages:
            load_queries(files)
        assert messages[0].startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "returns int: a streaming DataFrame made of `events` was expected"),
        ("return events.sparkSession.range(1)", "returns a DataFrame that is no stream: "),
        ("return events.select('run')", "returns no column message"),
        ("return events.select('nope')", "calling it fails: AnalysisException: [UNRESOLVED_COLUMN"),
        (
            "from longtail.streaming.queries import class_epochs; return class_epochs(events)",
            "class_epochs does not work on a streaming DataFrame: use class_scores",
        ),
        (
            "return events.groupBy('run').agg({'phase': 'max'}).withColumnRenamed('max(phase)', 'message')",
            "does not work on a stream: ",
        ),
    ],
)
def test_a_query_that_cannot_run_is_one_line(
    spark: SparkSession, body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(f"def alerts(events):\n    {body}\n")
    with refused() as messages:
        start_queries(
            spark, load_queries(["own.py"]), lambda session, checkpoint: file_lines(session, tmp_path / "events"),
            tables_dir=tmp_path, source="event files", trigger=None, on_alerts=lambda rows: None,
        )  # fmt: skip
    assert messages[0].startswith("--query own.py: alerts(events)") or messages[0].startswith("class_epochs does not")
    assert message in messages[0]


def test_the_documented_lines_of_a_notebook_work(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "events", "first", tail(run="a", support=4, correct=1))
    exec(documented("spark.table("), {"spark": spark})
    assert re.search(r"\| *a\| *test\| *1\| *rare\| *0\.25\|", capsys.readouterr().out)


ON_STREAMS = {"events_of", "class_scores", "run_updates", "latest", "runs"}


def all_queries() -> dict[str, Callable[..., DataFrame]]:
    return {
        name: query
        for module in (queries, table_queries)
        for name, query in vars(module).items()
        if inspect.isfunction(query) and not name.startswith("_") and query.__module__ == module.__name__
    }


@pytest.mark.long
def test_each_function_runs_on_a_stream_or_names_what_does(spark: SparkSession, tmp_path: Path) -> None:
    """And docs/analytics.md has each of them."""
    write(tmp_path, "first", tail(run="a"))
    events = event_stream(file_lines(spark, tmp_path))
    further = {"events_of": (ClassEvent,), "latest": (["run"],)}
    docs = (REPOSITORY / "docs" / "analytics.md").read_text()
    for name, query in all_queries().items():
        if name not in ON_STREAMS:
            required = [p for p in inspect.signature(query).parameters.values() if p.default is p.empty]
            named = {p.name: "a" for p in required if p.kind is p.KEYWORD_ONLY}
            frames = [events for p in required if p.kind is not p.KEYWORD_ONLY]
            with pytest.raises(UserError, match=f"{name} does not work on a streaming DataFrame: .*table"):
                query(*frames, **named)
            assert f"`{name}`" in docs or query.__module__ == table_queries.__name__, name
            continue
        given = queries.run_updates(events) if name == "runs" else events
        result = query(given, *further.get(name, ()))
        mode = "complete" if name in ("latest", "runs") else "append"
        sink = result.writeStream.format("memory").queryName(f"on_stream_{name}").outputMode(mode)
        running = sink.trigger(availableNow=True).start()
        running.awaitTermination()
        assert spark.table(f"on_stream_{name}").count() == 1, name
        assert f"`{name}`" in docs
