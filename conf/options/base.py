"""What the options of every job are made of.

A field is at the same time a command-line flag, a YAML key, a default and a
check (conf/arguments.py reads them). Option names are those that users of the
published code know. Values are frozen; unknown keys are refused.
"""

import hashlib
import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field


def option(
    default: Any, description: str, *, flags: tuple[str, ...] = (), positional: bool = False, **checks: Any
) -> Any:
    """A field with its help text, further flags (``-b``), a place instead of a flag, and pydantic checks (``gt=0``)."""
    extra = {"flags": list(flags), "positional": positional}
    return Field(default, description=description, json_schema_extra=extra, **checks)


class JobOptions(BaseModel):
    """What every job understands."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    own_defaults: ClassVar[frozenset[str]] = frozenset()
    """Options whose default is the job's own whatever the data set's is."""

    master: str | None = option(None, "Spark master URL; local[*] if none is given here or to spark-submit")
    verbose: bool = option(False, "show stack traces and Spark's own log")


TableFormat = Literal["parquet", "delta"]
"""How a job writes a table: Parquet files, or the same with a Delta Lake log beside them."""


def fingerprint(parameters: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with any parameter."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
