"""Streaming queries of a user's own, beside the live query: a Python file with `table` or `alerts`, or both.

    def table(events: DataFrame) -> DataFrame       # its rows are kept as a table
    def alerts(events: DataFrame) -> DataFrame      # rows (run, message, ...) are alerts

`events` is event_stream of all events. streaming/live/running_queries.py runs the functions.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pyspark.sql import DataFrame

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.streaming.tables.query_rows import ALERTS, TABLE

_NAME = re.compile(r"\w[\w-]{0,99}")


@dataclass(frozen=True)
class OwnQuery:
    """A function of a user's file.

    name: of the file, without .py
    kind: the function's name, TABLE or ALERTS
    version: changes with the text of the file
    """

    file: Path
    name: str
    kind: str
    version: str
    function: Callable[[DataFrame], DataFrame]

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.file}: {self.kind}(events)"


def load_queries(files: Sequence[str]) -> list[OwnQuery]:
    """Run the files and return their functions. Raises UserError if a file cannot be used."""
    queries: list[OwnQuery] = []
    for file in map(Path, files):
        if not _NAME.fullmatch(file.stem) or file.suffix != ".py":
            raise UserError(f"--query {file}: a name of letters, digits, _ and - was expected, with .py at its end")
        if any(file.stem == query.name for query in queries):
            raise UserError(f"--query {file}: there are two files {file.name}, and their tables would have one name")
        queries += _load(file)
    return queries


def _load(file: Path) -> list[OwnQuery]:
    try:
        text = read_regular_text(file)
    except OSError as error:
        raise UserError(f"--query: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--query: {file} is not UTF-8 text") from None
    # It is not among the imported modules: so Spark sends its functions to the executors, instead of their names.
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    try:
        exec(compile(text, file, "exec"), vars(module))  # noqa: S102 - the user names this file to have it run
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        raise UserError(f"--query {file}: running it fails: {type(error).__name__}: {error}") from error
    version = hashlib.sha256(text.encode()).hexdigest()[:8]
    found: dict[str, Any] = {kind: vars(module)[kind] for kind in (TABLE, ALERTS) if callable(vars(module).get(kind))}
    if not found:
        raise UserError(f"--query {file}: it defines neither table(events) nor alerts(events)")
    return [OwnQuery(file, file.stem, kind, version, function) for kind, function in found.items()]
