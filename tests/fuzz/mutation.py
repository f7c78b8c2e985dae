"""Damages bytes, and values of JSON, at random."""

import copy
import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**64 - 1,
)
_LAYOUTS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, float("nan"), float("inf"), "", "x", "1",
    "\0", "a/../b", "é\ud800", "x" * 5000, [], [1], [None], {}, {"a": 1}, [[]], ["x"] * 3,
)  # fmt: skip

_JSON_TOKENS = [
    b"[" * 5000, b'{"a":' * 5000, b"1" * 5000, b"NaN", b"-Infinity", b"1e999", b"null", b'"\\ud800"', b"\xff", b"\0",
]  # fmt: skip


def damaged(content: bytes, random: Random, *, tokens: Sequence[bytes] = ()) -> bytes:
    """``content`` after one to eight changes, rarely none; tokens: pieces of the format to insert."""
    result = bytearray(content)
    for _ in range(min(random.getrandbits(3), random.getrandbits(3)) + (random.random() < 0.98)):
        random.choice(_CHANGES)(result, random, tokens)
    return bytes(result)


def _place(content: bytearray, random: Random) -> int:
    return random.randrange(len(content) + 1)


def _flip(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _set_byte(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    if content:
        content[random.randrange(len(content))] = random.randrange(256)


def _set_number(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    layout, place = random.choice(_LAYOUTS), _place(content, random)
    size = struct.calcsize(layout)
    content[place : place + size] = struct.pack(layout, random.choice(NUMBERS) % 256**size)


def _insert(content: bytearray, random: Random, tokens: Sequence[bytes]) -> None:
    place = _place(content, random)
    content[place:place] = random.choice(tokens) if tokens else random.randbytes(random.randrange(1, 9))


def _overwrite(content: bytearray, random: Random, tokens: Sequence[bytes]) -> None:
    place = _place(content, random)
    token = random.choice(tokens) if tokens else random.randbytes(random.randrange(1, 9))
    content[place : place + len(token)] = token


def _remove(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place = _place(content, random)
    del content[place : place + random.choice((1, 2, 4, 8, 64, 1000))]


def _repeat(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    start, place = _place(content, random), _place(content, random)
    content[place:place] = content[start : start + random.choice((1, 4, 16, 100, 1000))] * random.choice((1, 1, 2, 20))


def _end(content: bytearray, random: Random, _: Sequence[bytes]) -> None:
    del content[_place(content, random) :]


_CHANGES: tuple[Callable[[bytearray, Random, Sequence[bytes]], None], ...] = (
    _flip, _flip, _set_byte, _set_number, _set_number, _insert, _insert, _overwrite, _remove, _repeat, _end,
)  # fmt: skip


def damaged_json(value: Any, random: Random) -> bytes:
    """A file of JSON, mostly valid JSON still, of ``value`` with changes."""
    if random.random() < 0.7:
        return changed_json(value, random).encode(errors="surrogatepass")
    return damaged(json.dumps(value).encode(), random, tokens=_JSON_TOKENS)


def changed_json(value: Any, random: Random) -> str:
    """JSON text of ``value`` after changes of one to four parts: another value, one less, one more, or one twice."""
    value = copy.deepcopy(value)
    for _ in range(random.randrange(1, 5)):
        parent, key = _random_part(value, random)
        if parent is None:
            value = _any_value(random)
        elif random.random() < 0.6:
            parent[key] = _any_value(random)
        elif random.random() < 0.5:
            del parent[key]
        elif isinstance(parent, dict):
            parent[random.choice(("x", "format_version", "", "é"))] = _any_value(random)
        else:
            parent.append(copy.deepcopy(parent[key]))
    return json.dumps(value)


def _any_value(random: Random) -> Any:
    return copy.deepcopy(random.choice(VALUES))


def _random_part(value: Any, random: Random) -> tuple[Any, Any]:
    """A container within the value, and a key or index of it; (None, None) for the value itself."""
    parent, key = None, None
    while isinstance(value, dict | list) and value and (parent is None or random.random() < 0.5):
        parent, key = value, random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value = parent[key]
    return parent, key
