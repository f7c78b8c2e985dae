"""A cluster without executors is one line (spark_jobs/cluster/executors.py); here its application is made up."""

from types import SimpleNamespace
from typing import Any

import pytest

from longtail.spark_jobs.cluster import executors


class Option:
    """Scala's, of the JVM."""

    def __init__(self, value: str | None) -> None:
        self.value = value

    def isDefined(self) -> bool:
        return self.value is not None

    def get(self) -> str | None:
        return self.value


def executor(name: str, *, is_active: bool, reason: str | None = None, tasks: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        id=lambda: name, isActive=lambda: is_active, removeReason=lambda: Option(reason), totalTasks=lambda: tasks
    )


def application(*found: SimpleNamespace, jobs: tuple[int, ...] = (0,)) -> Any:
    listed = [executor("driver", is_active=True), *found]
    java = SimpleNamespace(size=lambda: len(listed), apply=listed.__getitem__)
    context = SimpleNamespace(statusStore=lambda: SimpleNamespace(executorList=lambda active_only: java))
    return SimpleNamespace(
        _jsc=SimpleNamespace(sc=lambda: context),
        applicationId="app-1",
        master="spark://host:7077",
        getConf=lambda: {"spark.driver.host": "10.0.0.1", "spark.driver.port": "4711"},
        statusTracker=lambda: SimpleNamespace(getActiveJobsIds=lambda: list(jobs)),
    )


def test_a_job_without_executors_is_one_line_with_the_last_one_s_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(executors, "_LOOK_SECONDS", 0.01)
    executors._watch(application(executor("0", is_active=False, reason="Command exited\nwith code 1")))
    said = capsys.readouterr().err
    assert said.startswith(
        "longtail: no executor of spark://host:7077 runs (Command exited with code 1): see work/app-1/*/stderr on the "
        "workers; usual causes are Java options that do not start (spark.executor.extraJavaOptions), "
    )
    assert said.endswith(" and a driver that workers cannot reach (10.0.0.1:4711)\n") and said.count("\n") == 1


def test_executors_that_have_worked_and_an_application_that_has_ended_are_not_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    executors._watch(application(executor("0", is_active=False, reason="lost", tasks=3)))
    executors._watch(SimpleNamespace(_jsc=None))
    assert capsys.readouterr().err == ""
