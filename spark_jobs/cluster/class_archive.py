"""An archive of Spark's loaded classes (Java's class-data sharing), which halves the time of a local session's start.

The first session writes it into the user's cache directory as its JVM ends, later ones map it. There is one for each
Spark, Java and size of the heap. The JVM itself compares its own build and all jars with those of the archive, and
loads the classes from the jars if they differ.
"""

import atexit
import fcntl
import hashlib
import os
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyspark
from pyspark.find_spark_home import _find_spark_home

_QUIET = "-Xlog:cds*=off"
"""The JVM reports an archive that does not fit on standard output."""
_CHANGES_CLASSES_OR_HEAP = re.compile(r"share|class-?path|driver.?memory", re.IGNORECASE)
_OPTIONS_FROM_OUTSIDE = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS", "PYSPARK_SUBMIT_ARGS")
_FURTHER_CLASS_PATHS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH", "SPARK_PREPEND_CLASSES")
_UNFINISHED_SECONDS = 3600
_UNUSED_SECONDS = 30 * 24 * 3600
_WRITING_SECONDS = 120


@dataclass(frozen=True)
class ClassArchive:
    """The JVM's options for an archive, and what remains to be done if this JVM writes it."""

    java_options: str
    unfinished: Path | None = None
    lock: IO[str] | None = None

    def keep_when_written(self, jvm: subprocess.Popen[bytes]) -> None:
        """When this process ends, wait until its JVM has ended, too, and give what it wrote its name."""
        if self.unfinished is not None:
            atexit.register(self._end, jvm)

    def _end(self, jvm: subprocess.Popen[bytes]) -> None:
        assert self.unfinished is not None and self.lock is not None
        if jvm.stdin is not None:
            jvm.stdin.close()  # which ends Spark's JVM
        stem = Path(self.lock.name).with_suffix("")
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt, OSError):
            status = jvm.wait(_WRITING_SECONDS)
            if status == 0:
                # A JVM that maps an archive that was cut short crashes: so the name holds the size.
                self.unfinished.rename(f"{stem}-{self.unfinished.stat().st_size}.jsa")
            elif status > 0:
                _refusal(stem).touch()


def class_archive(java_version: str, *, driver_memory: str) -> ClassArchive | None:
    """The archive for a local session, or None where there can be none.

    java_version: what `java -version` prints
    """
    if "sharing" not in java_version or _other_classes():
        return None
    key = hashlib.sha256(f"{java_version}\n{_spark_home()}\n{driver_memory}".encode()).hexdigest()[:16]
    try:
        directory = _cache_directory()
        if directory is None:
            return None
        _remove_unused(directory)
        stem = directory / f"spark-{pyspark.__version__}-{key}"
        return _whole(stem) or (None if _refusal(stem).exists() else _to_be_written(stem))
    except OSError:
        return None


def _whole(stem: Path) -> ClassArchive | None:
    for file in stem.parent.glob(f"{stem.name}-*.jsa"):
        if str(file.stat().st_size) == file.stem.rpartition("-")[2]:
            os.utime(file)  # in use
            return ClassArchive(f"-XX:SharedArchiveFile={file} {_QUIET}")
    return None


def _to_be_written(stem: Path) -> ClassArchive | None:
    """None if another process is writing it."""
    lock = open(f"{stem}.lock", "w")  # noqa: SIM115 - held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    unfinished = Path(f"{stem}.{os.getpid()}.unfinished")
    return ClassArchive(f"-XX:ArchiveClassesAtExit={unfinished} {_QUIET}", unfinished, lock)


def _refusal(stem: Path) -> Path:
    """An empty file: this JVM ended with an error as it wrote, and is not asked again for a while."""
    return Path(f"{stem}.refused")


def _other_classes() -> bool:
    """Whether directories or options from outside may change the classes or the heap: a JVM archives only jars."""
    if any(os.environ.get(name) for name in _FURTHER_CLASS_PATHS):
        return True
    if any(_CHANGES_CLASSES_OR_HEAP.search(os.environ.get(name, "")) for name in _OPTIONS_FROM_OUTSIDE):
        return True
    configuration = Path(os.environ.get("SPARK_CONF_DIR") or f"{_spark_home()}/conf")
    return configuration.is_dir() and any(configuration.iterdir())


def _spark_home() -> str:
    return _find_spark_home()


def _cache_directory() -> Path | None:
    """None unless nobody else can write there: what is in it is run. Raises OSError if it cannot be made."""
    try:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "longtail"
    except RuntimeError:  # no home
        return None
    if re.search(r"[\s:\"'\\]", str(directory)):  # characters with a meaning in the JVM's options
        return None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    return directory if found.st_uid == os.geteuid() and not found.st_mode & 0o022 else None


def _remove_unused(directory: Path) -> None:
    now = time.time()
    for file in directory.glob("spark-*"):
        age = now - file.stat().st_mtime
        if age > _UNUSED_SECONDS or (file.suffix == ".unfinished" and age > _UNFINISHED_SECONDS):
            file.unlink(missing_ok=True)
