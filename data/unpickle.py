"""Arrays from pickles of others: the official CIFAR batches, published pseudo-labels, selections of tiny images.

The pickle is read by data/pickles.py, which runs nothing. Arrays are made here from their bytes, shape and the name of
a numeric type; their sizes are compared first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.data.pickles import BadPickle, Calls, PickleReader

_NUMERIC = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_MAX_DIMENSIONS = 32
# A list of half a million labels, each a scalar of numpy, has about this many.
_MAX_INSTRUCTIONS = 5_000_000

# Modules of numpy 2 and, in older pickles, 1.
_NAMES = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "__builtin__.bytes": "bytes",
    **{f"numpy.{core}.multiarray._reconstruct": "_reconstruct" for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": "scalar" for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": "_frombuffer" for core in ("core", "_core")},
}


@dataclass(frozen=True)
class _Name:
    """A function or class that arrays are pickled with."""

    name: str


@dataclass(eq=False)
class _Type:
    dtype: np.dtype


@dataclass(eq=False)
class _Array:
    """values: None until the pickle gives them"""

    values: np.ndarray | None = None


class _ArrayCalls(Calls):
    """num_bytes: size of the pickle, of which no text is encoded more than once"""

    def __init__(self, num_bytes: int) -> None:
        self._left_to_encode = num_bytes

    def name(self, name: str) -> _Name:
        if name not in _NAMES:
            raise BadPickle(f"it names {name[:80]}, which is not an array of numbers")
        return _Name(_NAMES[name])

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(function, _Name):
            match function.name, *arguments:
                case "dtype", str() | bytes() as name, *_:
                    return _Type(_numeric(_as_text(name)))
                case "_reconstruct", _Name(name="ndarray"), (0,), "b" | b"b":
                    return _Array()
                case "_frombuffer", bytes() as content, _Type(dtype=dtype), tuple() as shape, "C" | "F" as order:
                    return _Array(_array(content, dtype, shape, order))
                case "scalar", _Type(dtype=dtype), bytes() as content:
                    return _array(content, dtype, (), "C").item()
                case ("bytes",):
                    return b""
                case "encode", str() as text, "latin1":
                    self._left_to_encode -= len(text)
                    if self._left_to_encode < 0:
                        raise BadPickle("it encodes a text again and again")
                    return text.encode("latin-1")
        raise BadPickle("it calls something in a way that arrays do not need")

    def set_state(self, value: Any, state: Any) -> None:
        match value, state:
            case _Type(), (int(), "<" | b"<", None, None, None, *_):
                value.dtype = value.dtype.newbyteorder("<")
            case _Type(), (int(), ">" | b">", None, None, None, *_):
                value.dtype = value.dtype.newbyteorder(">")
            case _Type(), (int(), "|" | b"|", None, None, None, *_):
                pass  # a type of single bytes
            case _Array(), (int(), tuple() as shape, _Type(dtype=dtype), int() as is_fortran, bytes() as content):
                value.values = _array(content, dtype, shape, "F" if is_fortran else "C")
            case _:
                raise BadPickle("it has something with fields, which is not an array of numbers")


def load_array_dict(path: Location, keys: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays at ``keys`` of a pickled dict; see arrays_of. Raises UserError if the file cannot be read."""
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return arrays_of(content, keys, path=path, optional=optional)


def arrays_of(
    content: bytes, keys: Sequence[str], *, path: Location, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The read-only arrays at ``keys`` of a pickled dict, whose keys may be strings of Python 3 or 2.

    A list of numbers becomes an array, too.

    path: for messages alone
    optional: further keys, which the dict may lack

    Raises UserError if the pickle is damaged, contains anything but plain data and arrays of numbers, or lacks a key.
    """
    try:
        value = PickleReader(content, _ArrayCalls(len(content)), max_instructions=_MAX_INSTRUCTIONS).read()
        if not isinstance(value, dict):
            raise UserError(f"{path} has a {type(value).__name__}, a dict of {', '.join(keys)} was expected")
        named = {_as_text(key) if isinstance(key, bytes) else key: item for key, item in value.items()}
        if missing := [key for key in keys if key not in named]:
            has = ", ".join(sorted(map(str, named))[:10])
            raise UserError(f"{path} has no {', '.join(missing)}: it has {has[:200]}")
        return {key: _numbers(named[key], key) for key in [*keys, *(key for key in optional if key in named)]}
    except BadPickle as error:
        reason = str(error)[:200]
        raise UserError(f"{path} cannot be read as a pickle of arrays: {reason}; get the file again") from None


def _as_text(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _numeric(name: str) -> np.dtype:
    if name not in _NUMERIC:
        raise BadPickle(f"it has an array of the type {name[:20]!r}, which is not an array of numbers")
    return np.dtype(name)


def _array(content: bytes, dtype: np.dtype, shape: tuple[Any, ...], order: Any) -> np.ndarray:
    """A read-only array of exactly these bytes."""
    if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise BadPickle(f"it has an array of the shape {str(shape[:8])[:80]}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise BadPickle(f"it has an array of {dtype} {shape[:8]} with {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _numbers(value: Any, key: str) -> np.ndarray:
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    # Lists of lists may contain each other again and again.
    if isinstance(value, list) and all(type(number) in (bool, int, float) for number in value):
        numbers = np.array(value) if value else np.empty(0, np.int64)
        if numbers.dtype.kind in "biuf":
            return numbers
    raise BadPickle(f"its {key} is no array of numbers and no list of them")
