"""Exceptions in one line for the user; those of a Spark task reach the driver as text and are read from it."""

import os
import re
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError

from longtail.conf.base.errors import UserError
from longtail.conf.base.missing_packages import not_installed
from longtail.conf.base.shown_text import one_line
from longtail.conf.base.system_errors import MENDS, NOWHERE, OTHER_DIRECTORY, message_of, shown_path

_NUMBERS = {os.strerror(number): number for number in MENDS}
_OF_JVM = re.compile(rf"(?:Exception|Error)\b.*({'|'.join(map(re.escape, _NUMBERS))})")
_OF_TASK = re.compile(r"^\s*(?:\w+\.)*\w*Error: \[Errno (\d+)\] .*?(?:: '([^']+)'.*)?$", re.MULTILINE)
_NO_DIRECTORY = re.compile(r"Mkdirs failed to create (?:file:)?(\S+)")
_PATH = re.compile(r"file:(/[^\s,)\]]+)")


JVM_IS_GONE = "Spark's Java process ended (killed, or out of memory): run the command again"
_OF_KAFKA = (
    (
        re.compile(r"KAFKA_DATA_LOSS|Some data may have been lost because they are not available in Kafka"),
        "the topic was made anew, or lost messages before they were read: --new_checkpoint reads it from its beginning",
    ),
    (
        re.compile(r"errors\.(?:RecordTooLarge|MessageTooLarge)Exception"),
        "the Kafka topic takes no messages as long as when the relay started: run the command again, and what is too "
        "long goes into the quarantine",
    ),
    (
        re.compile(r"errors\.(?:\w*Authenti\w+|\w*Authorization)Exception: ([^\n]*)"),
        "the Kafka brokers refuse this user: {}; see --kafka_option",
    ),
    (
        re.compile(r"org\.apache\.kafka\.common\.errors\.TimeoutException: ([^\n]*)"),
        "the Kafka brokers stopped answering ({}): start them and run the command again, it goes on where it was",
    ),
)
"""What ends a query on a topic, and what the user can do."""
_SAME_PYTHON = "set spark.pyspark.python to a Python that all workers have, with Longtail's packages"
_OF_WORKERS = (
    (
        re.compile(r"Cannot run program \"([^\"]+)\".*?((?:No such file|Permission denied|Exec format)[\w ]*)"),
        f"a worker cannot start the Python {{}} ({{}}): {_SAME_PYTHON}",
    ),
    (
        re.compile(r"Python in worker has different version: (\S+) than that in driver: (\S+),"),
        f"a worker has Python {{}} and the driver {{}}: {_SAME_PYTHON}",
    ),
    (
        re.compile(r"^\s*ModuleNotFoundError: No module named '([\w.]+)'", re.MULTILINE),
        f"a worker's Python has no package {{}}: {_SAME_PYTHON}; `longtail package` makes a zip of Longtail itself "
        f"for --py-files",
    ),
    (
        re.compile(r"Master removed our application: (\w+)"),
        "Spark's master gave the application up ({}), as its executors ended when they started: work/APPLICATION/*/"
        "stderr on the workers says why; usual causes are Java options that do not start "
        "(spark.executor.extraJavaOptions) and a driver that workers cannot reach (spark.driver.host)",
    ),
    (
        re.compile(r"Cannot call methods on a stopped SparkContext"),
        "Spark has stopped the application: no master answers at --master, or it gave the application up; see that the "
        "master runs and that the URL is the one on its web page (spark://HOST:PORT)",
    ),
)
"""What ends executors or their Python processes as they start, and what the user can do."""
_STORE_DRIVERS = (
    "name its package in spark-defaults.conf, for S3 as `spark.jars.packages org.apache.hadoop:hadoop-aws:VERSION` in "
    "the version of Spark's hadoop-client-api, and s3a:// as the scheme"
)
_NO_STORE = re.compile(
    r"No FileSystem for scheme \"?(\w+)|ClassNotFoundException: Class (org\.apache\.hadoop\.fs\.[\w.]+) not found"
)
_GONE = re.compile(
    r"Py4JNetworkError|Answer from Java side is empty|Error while sending or receiving|Connection refused"
)


def user_message(error: BaseException) -> str | None:
    """The message of an exception that the user can mend, raised in the driver or in a Spark task; None for others.

    These are UserError, a package that is not installed, a file that Spark cannot read, a store that it has no driver
    for, errors of the operating system such as a full disk, and a JVM that was killed: with it, Spark cannot go on.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (missing := not_installed(error, needed_by="this job")):
        return str(missing)
    text = _whole_text(error)
    if found := re.search(r"^\s*(?:\w+\.)*UserError: (.*)$", text, re.MULTILINE):
        return found[1]
    if found := re.search(r"\[FAILED_READ_FILE[.\w]*\] .*? reading file (\S+?)\.(?:\s|$)", text):
        file = re.sub("^file:(//)?", "", unquote(found[1]))
        return one_line(f"{file} is damaged or cannot be read: write it again, with the job that wrote it")
    for pattern, mend in (*_OF_KAFKA, *_OF_WORKERS):
        if found := pattern.search(text):
            return one_line(mend.format(*found.groups()))
    if found := _NO_STORE.search(text):
        return f"Spark has no driver for {f'{found[1]}://' if found[1] else found[2]}: {_STORE_DRIVERS}"
    message = JVM_IS_GONE if is_of_dead_jvm(error) else _of_operating_system(error, text)
    return message and one_line(message)


def message_with_location(error: BaseException, directory: object) -> str | None:
    """The message of an error of the operating system that names no file, with the directory that was written to.

    None for all other errors: Spark does not always say which file it was.
    """
    message = user_message(error)
    if message is None or not message.startswith(NOWHERE):
        return None
    return message.replace(NOWHERE, f"cannot use {shown_path(directory)}", 1)


def failure_line(error: BaseException) -> str:
    """An exception in one line: that of a Spark task if there is one, else the cause in the JVM, else its own."""
    text = str(error).strip()
    of_task = re.search(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)$", text, re.MULTILINE)
    if of_task:
        return one_line(of_task[1])
    in_jvm = re.search(r"^: [\w.$]+: (.*)$", text, re.MULTILINE)
    if in_jvm:
        return one_line(in_jvm[1])
    return one_line(f"{type(error).__name__}: {(text or type(error).__name__).splitlines()[0]}")


def root_cause(error: Py4JJavaError) -> str:
    """Class and message of the exception in the JVM that led to all others."""
    cause = error.java_exception
    while (earlier := cause.getCause()) is not None:
        cause = earlier
    return one_line(f"{cause.getClass().getSimpleName()}: {cause.getMessage()}")


def was_cancelled(error: BaseException) -> bool:
    """Whether the user has cancelled the Spark job: by Ctrl-C, of whose experiment this is a training, or in the UI."""
    return "SPARK_JOB_CANCELLED" in str(error)


def is_of_dead_jvm(error: BaseException) -> bool:
    """Whether the exception, or one that led to it, says that the connection to the JVM broke."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # A Py4JJavaError is the JVM's own answer, whatever connection of a task it tells of.
        from_java = type(error).__module__.partition(".")[0] == "py4j" and not isinstance(error, Py4JJavaError)
        from_java = from_java or isinstance(error, ConnectionError)
        if from_java and _GONE.search(f"{type(error).__name__}: {error}"):
            return True
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
    return False


def _whole_text(error: BaseException) -> str:
    """The message and, of an exception of the JVM, the stack trace with its causes."""
    trace = getattr(error, "_stackTrace", None)
    return f"{error}\n{trace}" if isinstance(trace, str) else str(error)


def _of_operating_system(error: BaseException, text: str) -> str | None:
    if isinstance(error, OSError):
        return message_of(error.errno, error.filename)
    if (of_task := _OF_TASK.search(text)) and (message := message_of(int(of_task[1]), of_task[2])):
        return message
    path = _PATH.search(text)
    if of_jvm := _OF_JVM.search(text):
        return message_of(_NUMBERS[of_jvm[1]], path and path[1])
    if directory := _NO_DIRECTORY.search(text):
        return f"cannot create the directory {directory[1]}: {OTHER_DIRECTORY}"
    return None
