"""What every job does around its work (spark_jobs/cli.py): exit status and the one line on standard error."""

import errno
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

import longtail
from longtail import __main__ as command
from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cli import JOB_GROUPS, JOBS, main, run_job
from longtail.spark_jobs.cluster.failures import message_with_location, user_message
from tests.conftest import REPOSITORY


def raising(error: BaseException) -> Callable[[Sequence[str]], None]:
    def job_main(argv: Sequence[str]) -> None:
        raise error

    return job_main


def status_of(job_main: Callable[[Sequence[str]], None], *argv: str) -> object:
    with pytest.raises(SystemExit) as exit_:
        run_job("train", job_main, argv)
    return exit_.value.code


@pytest.mark.parametrize("text", ["a line", "more than a buffer holds " * 10_000])
@pytest.mark.parametrize("flush", [False, True])
def test_a_job_whose_output_nobody_reads_any_more_ends_without_a_word(
    text: str, flush: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert status_of(lambda argv: print(text, flush=flush)) == 141
    assert capsys.readouterr().err == ""


def test_a_pipe_to_something_else_that_breaks_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 1
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'Lost task 0.3 in stage 0.0: IOException: Cannot run program "/no/python3": error=2, No such file or '
            "directory\n\tat java.base/java.lang.ProcessBuilder.start",
            "a worker cannot start the Python /no/python3 (No such file or directory): set spark.pyspark.python to ",
        ),
        (
            'Cannot run program "./environment/bin/python": Exec failed, error: 13 (Permission denied) \n',
            "a worker cannot start the Python ./environment/bin/python (Permission denied): set spark.pyspark.python ",
        ),
        (
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.9 than that in driver: 3.11, PySpark",
            "a worker has Python 3.9 and the driver 3.11: set spark.pyspark.python to a Python that all workers have",
        ),
        (
            "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'longtail.conf'\n",
            "a worker's Python has no package longtail.conf: set spark.pyspark.python to ",
        ),
        (
            "Job aborted due to stage failure: Master removed our application: FAILED\nDriver stacktrace:",
            "Spark's master gave the application up (FAILED), as its executors ended when they started: ",
        ),
        (
            "IllegalStateException: Cannot call methods on a stopped SparkContext.\nThis stopped SparkContext",
            "Spark has stopped the application: no master answers at --master, or it gave the application up; ",
        ),
    ],
)
def test_workers_that_cannot_start_are_one_line_with_the_cause(text: str, message: str) -> None:
    assert (user_message(RuntimeError(text)) or "").startswith(message)


def test_an_error_of_the_system_that_names_no_file_gets_the_directory_as_the_user_knows_it() -> None:
    unfinished = f"/out/.table.longtail-{'0' * 32}"
    full = RuntimeError("org.apache.spark.SparkException: Task failed\nIOException: No space left on device")
    assert message_with_location(full, unfinished) == (
        "cannot use /out/table: No space left on device; free some space there, or choose another directory, and run "
        "the command again"
    )
    assert message_with_location(OSError(28, "No space left on device", "/out/file"), unfinished) is None
    assert message_with_location(RuntimeError("another failure"), unfinished) is None


def test_a_finished_job_returns_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    run_job("train", seen.append, ["--epochs", "3"])  # a SystemExit would fail the test

    assert seen == [["--epochs", "3"]]
    assert capsys.readouterr() == ("", "")


def test_bad_input_exits_with_2_and_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(UserError("there is no checkpoint x: train first"))) == 2
    assert capsys.readouterr() == ("", "longtail train: error: there is no checkpoint x: train first\n")


def test_a_failure_exits_with_1_and_names_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(ValueError("bad value\nsecond line\nthird line"))) == 1
    assert capsys.readouterr() == (
        "",
        "longtail train: failed: ValueError: bad value (--verbose shows the trace)\n",
    )


def test_a_failure_without_words_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(AssertionError())) == 1
    assert capsys.readouterr().err == (
        "longtail train: failed: AssertionError: AssertionError (--verbose shows the trace)\n"
    )


def test_an_interrupt_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "longtail train: interrupted\n")


@pytest.mark.parametrize("error", [UserError("bad input"), ValueError("bad value")])
def test_verbose_shows_the_trace_before_the_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_job("train", raising(error), ["--verbose"])

    assert exit_.value.code == (2 if isinstance(error, UserError) else 1)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Traceback") and said[-1].startswith("longtail train: ")


def test_an_exit_of_the_job_itself_is_kept() -> None:
    """`--help` exits so."""
    assert status_of(raising(SystemExit(0))) == 0


def test_the_message_of_a_user_error_is_taken_as_it_is() -> None:
    assert user_message(UserError("UserError: is part of it")) == "UserError: is part of it"


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):\n  File x\nconf.errors.UserError: lower --n_max (it is 5)\n\tat org.X",
        "Job aborted:\n  conf.errors.UserError: lower --n_max (it is 5)\n\nDriver stacktrace:",
        "UserError: lower --n_max (it is 5)",
    ],
)
def test_a_user_error_is_found_in_the_text_of_a_task_failure(text: str) -> None:
    assert user_message(RuntimeError(text)) == "lower --n_max (it is 5)"


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: bad value",
        "the words UserError: in the middle of a line",
        "NotAUserError: x",
        '    raise UserError("text of the source line")',
        "",
    ],
)
def test_other_failures_are_not_taken_for_bad_input(text: str) -> None:
    assert user_message(RuntimeError(text)) is None


def test_a_user_error_in_a_task_exits_with_2(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    def job_main(argv: Sequence[str]) -> None:
        def damaged(batches):
            raise UserError("images.gz is damaged: delete it and run again")
            yield pa.RecordBatch.from_pydict({"id": [0]})

        spark.range(1).mapInArrow(damaged, "id long").collect()

    assert status_of(job_main) == 2
    assert capsys.readouterr().err == "longtail train: error: images.gz is damaged: delete it and run again\n"


def test_a_failure_in_a_task_exits_with_1_in_one_line(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    def job_main(argv: Sequence[str]) -> None:
        def broken(batches):
            raise ZeroDivisionError("a defect")
            yield pa.RecordBatch.from_pydict({"id": [0]})

        spark.range(1).mapInArrow(broken, "id long").collect()

    assert status_of(job_main) == 1
    said = capsys.readouterr().err
    assert said == "longtail train: failed: ZeroDivisionError: a defect (--verbose shows the trace)\n"


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["longtail", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


def test_an_unknown_job_exits_with_2_and_names_the_job_that_was_probably_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "trian", "--epochs", "3") == 2
    expected = "longtail: error: unknown job 'trian' (did you mean train?); `longtail help` lists the jobs\n"
    assert capsys.readouterr() == ("", expected)
    assert run_main(monkeypatch, "help", "qqq") == 2
    assert capsys.readouterr() == ("", "longtail: error: unknown job 'qqq'; `longtail help` lists the jobs\n")


@pytest.mark.parametrize("spelling", ["help", "-h", "--help"])
def test_help_lists_every_job_in_its_group_and_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spelling: str
) -> None:
    assert run_main(monkeypatch, spelling) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    blocks = [block.splitlines() for block in printed.out.split("\n\n")[1:]]
    listed = {title: [line.split()[0] for line in jobs] for title, *jobs in blocks}
    assert listed == {f"{title}:": list(jobs) for title, jobs in JOB_GROUPS.items()}
    assert listed["Data sets:"] == ["prepare", "stats"]
    assert all(len(line) <= 100 for line in printed.out.splitlines())


def test_help_of_a_job_is_the_job_s_own_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "train", "--help") == 0
    own = capsys.readouterr()
    assert run_main(monkeypatch, "help", "train") == 0
    assert capsys.readouterr() == own


def test_version_prints_the_version_and_returns(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr() == (f"longtail {longtail.__version__}\n", "")


@pytest.mark.parametrize("directory", ["spark_jobs", "src/longtail/spark_jobs"])
def test_a_job_does_not_hide_a_module_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: str
) -> None:
    """spark-submit puts the script's directory first on the path, which holds stats.py."""
    (tmp_path / "stats.py").write_text("OWNER = 'the user'\n")
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / directory), str(tmp_path), *sys.path])
    spec = importlib.machinery.PathFinder.find_spec("stats")
    assert spec is not None and spec.origin == str(REPOSITORY / directory / "stats.py")
    owners = []

    run_job("train", lambda argv: owners.append(importlib.import_module("stats").OWNER), [])

    assert owners == ["the user"]
    monkeypatch.delitem(sys.modules, "stats")


def test_without_a_job_the_usage_is_shown_and_the_status_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch) == 2
    assert capsys.readouterr().out.startswith("usage: longtail JOB")


@pytest.mark.parametrize("job", JOBS)
def test_every_listed_job_has_a_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: str
) -> None:
    assert run_main(monkeypatch, job, "--help") == 0
    assert f"usage: longtail {job} " in capsys.readouterr().out


def test_an_unknown_option_exits_with_2_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "prepare", "--n_maks", "5") == 2
    said = capsys.readouterr().err
    assert said.startswith("longtail prepare: error: ") and "--n_maks" in said
    assert said.count("\n") == 1


def test_an_unfinished_file_is_named_as_the_user_knows_it() -> None:
    unfinished = f"/data/.predictions.parquet.longtail-{'0a' * 16}"
    for path in (unfinished, f"{unfinished}/part-0", f"{unfinished}."):
        message = user_message(OSError(errno.ENOSPC, "No space left on device", path))
        assert message is not None
        assert message.startswith(
            f"cannot use /data/predictions.parquet{path.removeprefix(unfinished).rstrip('.')}: No"
        )


def test_ctrl_c_while_the_command_line_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Imported:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "longtail.spark_jobs.cli", Imported())
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "longtail: interrupted\n")
