"""The log of a run: what it says, that it is bounded and has no secrets, and who shows it."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.base.errors import UserError
from longtail.conf.options.pretraining import PretrainSimclrOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.runs import main as runs
from longtail.spark_jobs.steps import training
from longtail.spark_jobs.steps.run_logs import logs_of_runs
from longtail.streaming.dashboard.server import dashboard_page, listening_socket, serving
from longtail.training import run_log
from longtail.training.run import run_training
from longtail.training.run_directory import CHECKPOINT_FILE, RunPaths, begin_attempt
from longtail.training.run_log import RunLog, read_log
from tests.refusals import refused
from tests.test_dashboard_page import ONE_RUN, ask, reader_of
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Of the run `base`, with a log of two lines."""
    log = RunLog(tmp_path / "base", attempt=1)
    log.add("epoch 1/2: <b>test</b>")
    log.add("finished")
    return tmp_path / "base"


def test_a_training_says_what_it_runs_on_and_what_each_epoch_measured(set_dir: Path, tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, epochs=2)
    result = run_training(options, paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    text = read_log(tmp_path / "run")
    first, data, one, two, last = text.splitlines()
    assert re.fullmatch(STAMP + r"train, 1 rank, cpu of \S+: longtail \S+, torch \S+, Python \S+", first)
    assert data.endswith("3 classes: 40 train, 6 val, 12 unlabeled, 30 test")
    assert re.search(r"  epoch 1/2: train loss \d+\.\d{4}, accuracy \d+\.\d %; val loss ", one)
    test = result["splits"]["test"]
    assert f"; test loss {test['loss']:.4f}, balanced accuracy {100 * test['balanced_accuracy']:.1f} %; " in two
    assert re.search(r"; learning rate \S+; [\d,]+ images/s, \d+\.\d s$", two) and last.endswith("  finished")

    run_training(tiny_options(TrainOptions, epochs=3), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=2)
    assert read_log(tmp_path / "run").startswith(text)
    assert "goes on after epoch 2\n" in read_log(tmp_path / "run")


def test_a_run_that_the_user_can_mend_says_only_how(
    set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*arguments: object, **options: object) -> None:
        raise UserError("the loss became nan:\nlower --lr")

    monkeypatch.setattr("longtail.training.run.fit", refuses)
    paths = paths_of(set_dir, tmp_path / "run")
    with pytest.raises(UserError):
        run_training(tiny_options(TrainOptions), paths, ALONE, attempt=1)
    (event,) = paths.events_dir.glob("*failed*")
    assert json.loads(event.read_text())["message"] == "the loss became nan: lower --lr"


def test_a_pretraining_has_no_balanced_accuracy(set_dir: Path, tmp_path: Path) -> None:
    run_training(tiny_options(PretrainSimclrOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    (epoch,) = re.findall("epoch 1/1: .*", read_log(tmp_path / "run"))
    assert re.match(r"epoch 1/1: train loss \d+\.\d{4}, accuracy \d+\.\d %; learning rate", epoch)


def test_a_failure_has_its_stack_trace_and_no_secret(
    set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("s3a://ann:hunter22@bucket/x is gone")

    monkeypatch.setattr("longtail.training.run.fit", fails)
    with pytest.raises(RuntimeError):
        run_training(tiny_options(TrainOptions), paths_of(set_dir, tmp_path / "run"), ALONE, attempt=1)
    text = read_log(tmp_path / "run")
    assert "  failed\n    Traceback (most recent call last):\n" in text
    assert text.endswith("    RuntimeError: s3a://***@bucket/x is gone\n")


def test_the_driver_says_why_an_attempt_ended(set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a rank was killed, which cannot say so."""
    attempts = []

    def attempt(spark: object, options: object, paths: RunPaths, number: int, **others: object) -> dict[str, Any]:
        attempts.append(number)
        if number == 1:
            raise RuntimeError("rank 1 is gone")
        (paths.run_dir / CHECKPOINT_FILE).touch()
        return {}

    for name, replacement in {
        "_attempt": attempt, "check_slots": lambda *a, **b: None, "stage_profile": lambda spark: None,
        "tracked": lambda *a: nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(training, name, replacement)
    spark: Any = None
    options = tiny_options(TrainOptions, retries=1, runs_dir=tmp_path)
    run = training.train_run(spark, options, set_dir=set_dir, show_progress=False)
    assert attempts == [1, 2]
    (line,) = read_log(run.run_dir).splitlines()
    assert re.fullmatch(STAMP + r"attempt 1 failed \(RuntimeError: rank 1 is gone\)", line)


def test_what_the_user_can_mend_and_an_interruption_are_a_line(tmp_path: Path) -> None:
    for attempt, error in enumerate((UserError("lower --lr"), KeyboardInterrupt()), start=1):
        RunLog(tmp_path, attempt=attempt).ended(error)
    assert re.fullmatch(f"{STAMP}ended: lower --lr\n{STAMP}interrupted\n", read_log(tmp_path))


def test_the_oldest_lines_go_first_and_old_attempts_go_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MOST_BYTES", 400)
    log = RunLog(tmp_path, attempt=1)
    for number in range(100):
        log.add(f"line {number}")
    file = tmp_path / "attempts" / "001.log"
    first, *lines = file.read_text().splitlines()
    assert file.stat().st_size <= 400 and first == "... (earlier lines are left out)"
    assert [line.split("  ")[1] for line in lines] == [f"line {number}" for number in range(100 - len(lines), 100)]
    assert len(lines) > 8
    # The driver goes on with what rank 0 wrote; of a file of others, only the end is read.
    RunLog(tmp_path, attempt=1).add("attempt 1 failed")
    assert file.read_text().count("left out") == 1 and file.read_text().endswith("  attempt 1 failed\n")
    (tmp_path / "attempts" / "002.log").write_text("x\n" * 10_000)
    assert len(read_log(tmp_path)) < 1000
    options = tiny_options(TrainOptions)
    paths = paths_of(tmp_path / "set", tmp_path)
    for expected in range(1, 7):
        assert begin_attempt(paths, options) == expected
        RunLog(tmp_path, attempt=expected).add("began")
    assert sorted(log.name for log in (tmp_path / "attempts").glob("*.log")) == [f"00{n}.log" for n in (3, 4, 5, 6)]


def test_a_full_disk_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(run_log, "write_text_atomically", full)
    RunLog(tmp_path, attempt=1).add("epoch 1")


def test_a_link_is_not_followed(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (run_dir / "attempts" / "002.log").symlink_to(tmp_path / "secret")
    assert "secret" not in read_log(run_dir)
    (tmp_path / "link").symlink_to(run_dir)
    assert "is a link" in (logs_of_runs(tmp_path)("link").problem or "")


def test_runs_prints_it(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_dir / "options.json").write_text("{}")
    runs(["log", "base", "--runs_dir", str(run_dir.parent)])
    assert re.fullmatch(f"{STAMP}epoch 1/2: <b>test</b>\n{STAMP}finished\n", capsys.readouterr().out)
    (run_dir / "attempts" / "001.log").unlink()
    with refused() as messages:
        runs(["log", "base", "--runs_dir", str(run_dir.parent)])
    assert len(messages) == 1 and messages[0].startswith(f"There is no log in {run_dir}: ")


@pytest.fixture
def server(run_dir: Path) -> Iterator[socket.socket]:
    listening = listening_socket("127.0.0.1", 0)
    page = dashboard_page(reader_of(ONE_RUN), lambda: "7", host="127.0.0.1", log=logs_of_runs(run_dir.parent))
    with serving(page, listening):
        yield listening


def test_the_page_has_its_last_lines_escaped_and_all_of_it_as_text(server: socket.socket, run_dir: Path) -> None:
    assert b'data-log="base"' in ask(server, "/")[2]
    log = RunLog(run_dir, attempt=2)
    for number in range(250):
        log.add(f"line {number}")
    status, headers, body = ask(server, "/log?run=base")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    html = body.decode()
    assert "The last 200 of 252 lines" in html and "line 49\n" not in html and "  line 50\n" in html
    status, headers, body = ask(server, "/log?run=base&whole=1")
    assert headers["Content-Type"].startswith("text/plain") and body.decode().count("\n") == 252
    assert headers["Content-Disposition"] == 'attachment; filename="base.log"'
    (run_dir / "attempts" / "002.log").unlink()
    assert b"epoch 1/2: &lt;b&gt;test&lt;/b&gt;" in ask(server, "/log?run=base")[2]
    (run_dir / "attempts" / "001.log").unlink()
    assert b"There is no log in " in ask(server, "/log?run=base&whole=1")[2]


@pytest.mark.parametrize("run", ["", "other", "..", "../base", "base/", "%2e%2e", "base%00"])
def test_no_run_that_the_tables_lack_has_a_log(server: socket.socket, run: str) -> None:
    assert ask(server, f"/log?run={run}")[0] == 404


def test_without_logs_there_is_no_button() -> None:
    listening = listening_socket("127.0.0.1", 0)
    with serving(dashboard_page(reader_of(ONE_RUN), lambda: "7", host="127.0.0.1"), listening):
        assert b"data-log=" not in ask(listening, "/")[2]
        assert ask(listening, "/log?run=base")[0] == 404
    assert "start the page with --runs_dir" in (logs_of_runs(None)("base").problem or "")
