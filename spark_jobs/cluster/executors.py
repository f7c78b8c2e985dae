"""Whether a cluster has executors: one that starts none, or whose executors end as they start, says nothing by itself.

Spark waits for executors without end, and what ends one is in a log on a worker.
"""

import sys
import threading
import time
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext

WAIT_SECONDS = 40.0
"""A job without executors for so long is worth a line; a cluster that is busy may take longer."""
_LOOK_SECONDS = 5.0
_LOGS = {
    "spark:": "work/{app}/*/stderr on the workers",
    "yarn": "`yarn logs -applicationId {app}`",
    "k8s:": "`kubectl describe pods` and `kubectl logs`, each with -l spark-app-selector={app}",
}
"""Where a cluster says why an executor ended, by the beginning of its master."""


def watch_executors(context: SparkContext) -> None:
    """Write a line on standard error if a job of this application waits for WAIT_SECONDS and no executor runs."""
    threading.Thread(target=_watch, args=(context,), name="longtail executors", daemon=True).start()


def no_executors(context: SparkContext) -> str:
    """That a cluster has no executor, what may be the cause, and where the cluster says so."""
    settings, app, master = context.getConf(), context.applicationId, str(context.master)
    logs = next((place for start, place in _LOGS.items() if master.startswith(start)), "the executors' logs")
    reasons = [executor.removeReason() for executor in executors_of(context)]
    causes = [" ".join(str(reason.get()).split()) for reason in reasons if reason.isDefined()]
    driver = f"{settings.get('spark.driver.host')}:{settings.get('spark.driver.port')}"
    return (
        f"no executor of {master} runs{f' ({causes[-1][:200]})' if causes else ''}: see {logs.format(app=app)}; "
        f"usual causes are Java options that do not start (spark.executor.extraJavaOptions), more memory or cores than "
        f"a worker has (spark.executor.memory, .cores), and a driver that workers cannot reach ({driver})"
    )


def executors_of(context: SparkContext) -> list[Any]:
    """Spark's summaries of the executors, those that have ended too; without the driver, which Spark lists as one."""
    java_context: Any = context._jsc  # objects of the JVM have no static type
    listed = java_context.sc().statusStore().executorList(False)
    executors = [listed.apply(place) for place in range(listed.size())]
    return [executor for executor in executors if executor.id() != "driver"]


def _watch(context: SparkContext) -> None:
    waits_since = None
    try:
        while context._jsc is not None:
            executors = executors_of(context)
            if any(executor.totalTasks() > 0 for executor in executors):
                return  # what ends one that has worked is another matter
            waits = bool(context.statusTracker().getActiveJobsIds())
            if not waits or any(executor.isActive() for executor in executors):
                waits_since = None
            elif waits_since is None:
                waits_since = time.monotonic()
            elif time.monotonic() - waits_since >= WAIT_SECONDS:
                print(f"longtail: {no_executors(context)}", file=sys.stderr, flush=True)
                return
            time.sleep(_LOOK_SECONDS)
    except (Py4JError, OSError, AttributeError):
        return  # the application has ended
