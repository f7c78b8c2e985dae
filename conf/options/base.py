"""The base of the options of every job.

A field is at the same time a command-line flag, a YAML key, a default and a check (conf/arguments.py reads them).
Option names are those that users of the published code know. Values are frozen; unknown keys are refused.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from longtail.conf.base.locations import local_path, location, location_text
from longtail.conf.base.paths import LONGEST_NAME, LONGEST_PATH, is_possible_path, nearest_existing
from longtail.conf.base.shown_text import is_plain, redacted_values
from longtail.conf.base.store_path import StorePath
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.base.user_code import is_code_name

Group = Literal[
    "Input", "Method", "Data set", "Your own images", "Long tail", "Unlabeled images", "Pseudo-labels",
    "Loss and re-balancing", "Network", "Optimisation", "Checkpoints", "Live tables", "Output", "Spark",
]  # fmt: skip
"""Headings of the help, in the order in which they are shown."""
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """How the command line presents an option.

    group: the heading under which the help lists it
    flags: further spellings (``-b``); in long ones, dashes and underscores are equal
    positional: given by its position instead of by a flag
    advanced: listed by --help-all alone
    choices: the names to choose from, where the field's type does not list them
    repeated: what one value looks like, if the flag may be given several times; else empty
    alone: the value if the flag is given without one; empty if it needs one
    """

    group: str
    flags: tuple[str, ...]
    positional: bool
    advanced: bool
    choices: tuple[str, ...]
    repeated: str
    alone: str


def one_of(names: Iterable[str], *, or_code: str = "", or_name: re.Pattern[str] | None = None) -> AfterValidator:
    """Check that a value is one of the names.

    or_code: what else a user may give, a `package.module:name` of their own; empty for nothing else
    or_name: the form of further names that are checked where they are used, written library:NAME
    """
    known = tuple(names)

    def check(value: str) -> str:
        if value in known or (or_code and is_code_name(value)) or (or_name and or_name.fullmatch(value)):
            return value
        *rest, last = map(repr, known)
        further = f", {or_name.pattern.partition(':')[0]}:NAME" if or_name else ""
        further += f", or package.module:{or_code}" if or_code else ""
        raise ValueError(f"input should be {', '.join(rest)} or {last}{further}{did_you_mean(value, known)}")

    return AfterValidator(check)


def of_form(pattern: str, form: str) -> AfterValidator:
    """Check that a value matches a regular expression from end to end.

    form: what it expects, for the message: "letters and digits"
    """
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{form} was expected")
        return value

    return AfterValidator(check)


def option(
    default: Any,
    description: str,
    *,
    group: Group,
    flags: tuple[str, ...] = (),
    positional: bool = False,
    advanced: bool = False,
    choices: Iterable[str] = (),
    repeated: str = "",
    alone: str = "",
    in_run_name: bool = True,
    **checks: Any,
) -> Any:
    """A field of a job's options.

    default: ``...`` if the option is required
    description: the option's line in the help, without the default
    group, flags, positional, advanced, choices, repeated, alone: see Presentation
    in_run_name: whether the option is part of the name of a run; False if it does not change the outcome of a training
    checks: pydantic's (``gt=0``, ``max_length=...``)
    """
    extra = {
        "group": group,
        "flags": " ".join(flags),
        "positional": positional,
        "advanced": advanced,
        "choices": " ".join(choices),
        "repeated": repeated,
        "alone": alone,
        "in_run_name": in_run_name,
    }
    # The default of a location may be on another file system than the local one.
    return Field(
        default,
        description=description,
        json_schema_extra=extra,
        validate_default=True if isinstance(default, Path) else None,
        **checks,
    )


def _extra(field: FieldInfo) -> dict[str, Any]:
    assert isinstance(field.json_schema_extra, dict), "option() makes every field of a job's options"
    return field.json_schema_extra


def presentation(field: FieldInfo) -> Presentation:
    """How the command line presents a field made by option()."""
    extra = _extra(field)
    return Presentation(
        group=str(extra["group"]),
        flags=tuple(str(extra["flags"]).split()),
        positional=bool(extra["positional"]),
        advanced=bool(extra["advanced"]),
        choices=tuple(str(extra["choices"]).split()),
        repeated=str(extra["repeated"]),
        alone=str(extra["alone"]),
    )


def is_in_run_name(field: FieldInfo) -> bool:
    """Whether a field made by option() is part of the name of a run."""
    return bool(_extra(field)["in_run_name"])


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value of the command line, of a YAML file or of a program."""
    if isinstance(value, str | Path | StorePath):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from chain(_texts(list(value)), _texts(list(value.values())))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_texts, value))


class JobOptions(BaseModel):
    """Options that every job has.

    The docstring of a job's class is `job: description`; the help shows it.
    """

    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid", allow_inf_nan=False)

    own_defaults: ClassVar[frozenset[str]] = frozenset()
    """Options whose default is the job's, whatever the data set's is."""
    refused: ClassVar[frozenset[str]] = frozenset()
    """Options of related jobs that this one refuses, with the reason; its help leaves them out."""
    examples: ClassVar[tuple[tuple[str, str], ...]] = ()
    """For the help: arguments of the job, and what they do."""

    verbose: bool = option(False, "show stack traces and Spark's log", group="Output", in_run_name=False)

    @field_validator("*", mode="before")
    @classmethod
    def _text_can_be_shown_and_a_path_can_exist(cls, value: Any, info: ValidationInfo) -> Any:
        if not all(map(is_plain, _texts(value))):
            raise ValueError("a value has no control characters and no other bytes than UTF-8 text")
        if not isinstance(value, str | Path | StorePath):
            return value
        field = cls.model_fields[info.field_name or ""]
        if not _holds(Path, field.annotation):
            return value
        if not is_possible_path(Path(str(value))):
            raise ValueError(f"file systems take names of up to {LONGEST_NAME} bytes, paths of up to {LONGEST_PATH}")
        if not _holds(StorePath, field.annotation):
            return local_path(value)
        # A default is a path without a scheme, which nobody has resolved.
        return location(str(value) if value is field.default else value)

    @field_validator("*")
    @classmethod
    def _directories_are_no_files(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Path) and (info.field_name or "").endswith("_dir"):
            place = nearest_existing(value)
            if not place.is_dir():
                raise ValueError(f"{place} is a file, a directory was expected")
        return value

    @field_validator("*")
    @classmethod
    def _whole_numbers_have_64_bits(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("a whole number is smaller than 2^63")
        return value

    def recorded(self) -> dict[str, Any]:
        """The options as JSON values for files and events: without secrets that URLs may hold."""
        locations = {name: location_text(value) for name, value in self if isinstance(value, Path)}
        return redacted_values({**self.model_dump(mode="json"), **locations})

    @classmethod
    def implied_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Defaults that the values of other options imply, by option name."""
        return {}


def _holds(kind: type, annotation: Any) -> bool:
    """Whether a type is ``kind``, or a union or an annotation of it."""
    return annotation is kind or any(_holds(kind, part) for part in get_args(annotation))


_MASTER = re.compile(
    r"local|local\[(\*|[1-9][0-9]{0,3})(,\s*(\*|[1-9][0-9]{0,3}))?\]"
    r"|local-cluster\[\s*[1-9][0-9]{0,3}\s*,\s*[1-9][0-9]{0,3}\s*,\s*[1-9][0-9]{0,6}\s*\]"
    r"|spark://[^\s,/:]+:[0-9]{1,5}(,[^\s,/:]+:[0-9]{1,5})*|yarn|k8s://\S+"
)


_REMOTE = re.compile(
    r"sc://[^\s/;:]+(:[0-9]{1,5})?(/\S*)?|sc://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?(/\S*)?|local(\[[^\]]+\])?"
)


class SparkJobOptions(JobOptions):
    """Options that every job with a Spark session has."""

    refused: ClassVar[frozenset[str]] = frozenset({"remote"})
    """Most jobs need the driver in their own process (spark_jobs/cluster/connect.py)."""

    master: str | None = option(
        None, "URL of the Spark master; default local[*], or spark-submit's", group="Spark", in_run_name=False
    )

    remote: str | None = option(
        None,
        "URL of a Spark Connect server, sc://HOST:PORT; default: SPARK_REMOTE",
        group="Spark", advanced=True, in_run_name=False,
    )  # fmt: skip

    @field_validator("remote")
    @classmethod
    def _remote_is_one_that_spark_knows(cls, value: str | None) -> str | None:
        if value is not None and not _REMOTE.fullmatch(value):
            raise ValueError("input should be sc://HOST:PORT, or local[N] for a server that Spark starts")
        return value

    @field_validator("master")
    @classmethod
    def _master_is_one_that_spark_knows(cls, value: str | None) -> str | None:
        if value is not None and not _MASTER.fullmatch(value):
            raise ValueError(
                "input should be local[N], local[*], local-cluster[WORKERS,CORES,MEGABYTES], spark://HOST:PORT, "
                "yarn or k8s://HOST:PORT"
            )
        return value


MOST_THREADS = 256
"""Threads of one process: PyTorch starts as many as are asked for, and more than the cores only cost memory."""

TableFormat = Literal["parquet", "delta"]
"""How a job writes a table: Parquet files, or the same with a Delta Lake log beside them."""

DELTA_HELP = "delta makes the Parquet files a Delta Lake table as well (pip install 'longtail[delta]')"


def fingerprint(parameters: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with any parameter."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
