"""The reader of other people's pickles: arrays yes, code no."""

import os
import pickle
import re
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtail.data import unpickle
from longtail.data.unpickle import arrays_of, load_array_dict
from tests.refusals import refused

BATCH = Path("batch")


class Hostile:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments

    def __str__(self) -> str:
        return f"{self.function.__name__} of {len(self.arguments)}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({b"data": Hostile(os.system, f"touch {trace}")}, protocol=protocol)
    with refused() as messages:
        arrays_of(content, ["data"], path=BATCH)
    assert re.search(r"batch cannot be read .* it names \w+\.system", messages[0])
    assert not trace.exists()
    # The pickle is a working one: read without care, it leaves its trace.
    pickle.loads(content)
    assert trace.exists()


@pytest.mark.parametrize("value", [eval, np.load, np.ndarray.tofile, Path("x"), np.random.default_rng(0)])
def test_a_pickle_of_anything_but_arrays_is_refused(value: object) -> None:
    with refused() as messages:
        arrays_of(pickle.dumps(value), ["data"], path=BATCH)
    assert "not an array of numbers" in messages[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_read(protocol: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    content = {
        "data": pixels,
        b"fortran": np.asfortranarray(pixels),
        "every_other": np.arange(10)[::2],
        "floats": np.array([1.5, -2.0], ">f4"),
        "flags": np.array([[True], [False]]),
        "empty": np.empty((0, 3), np.int16),
        "no_labels": [],
        "labels": [7, 2, -(2**40)],
        "shares": [0.5, 1],
        "scalars": [np.int64(-3), np.float64(0.25)],
    }
    keys = [key.decode() if isinstance(key, bytes) else key for key in content]
    got = arrays_of(pickle.dumps(content, protocol=protocol), keys, path=BATCH)
    assert list(got) == keys
    for key, expected in zip(keys, content.values(), strict=True):
        assert np.array_equal(got[key], np.asarray(expected))
    assert (got["data"].dtype, got["floats"].dtype, got["labels"].dtype) == (np.uint8, np.dtype(">f4"), np.int64)
    assert not got["data"].flags.writeable


def test_a_text_pickle_of_python_2_is_read() -> None:
    """Protocol 0, in which bytes are text with escapes."""
    content = b"(dp0\nS'extrapolated_targets'\np1\n(lp2\nI3\naI01\naL5L\nasS'\\x89\\n'\np3\nF0.5\ns."
    assert pickle.loads(content, encoding="latin-1") == {"extrapolated_targets": [3, True, 5], "\x89\n": 0.5}
    assert arrays_of(content, ["extrapolated_targets"], path=BATCH)["extrapolated_targets"].tolist() == [3, 1, 5]


def array_with(**changes: Any) -> bytes:
    """{"data": an array of 4 bytes}, with another shape, type, state of the type or content."""
    kind = changes.get("kind", "u1")
    dtype = Hostile(np.dtype, kind, False, True)
    dtype.__dict__["state"] = changes.get("type_state")

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            state = (1, changes.get("shape", (4,)), np.dtype("u1"), False, changes.get("content", b"abcd"))
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    class Type:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, (kind, False, True), changes.get("type_state", (3, "|", None, None, None, -1, -1, 0))

    class Whole:
        def __reduce__(self) -> tuple[Any, ...]:
            state = (1, changes.get("shape", (4,)), Type(), False, changes.get("content", b"abcd"))
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    return pickle.dumps({"data": Whole()}, protocol=2)


def test_an_array_is_made_of_its_type_shape_and_bytes() -> None:
    assert arrays_of(array_with(), ["data"], path=BATCH)["data"].tolist() == list(b"abcd")
    assert arrays_of(array_with(kind="u2", shape=(1, 2)), ["data"], path=BATCH)["data"].tolist() == [[25185, 25699]]


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (5,)},
        {"shape": (3,)},
        {"shape": (-4,)},
        {"shape": (-2, -2)},
        {"shape": (2**62, 4)},
        {"shape": (2**64, 0)},
        {"shape": (2.0, 2)},
        {"shape": (True, 4)},
        {"shape": (1,) * 40 + (4,)},
        {"shape": [4]},
        {"shape": 4},
        {"content": "abcd"},
        {"content": [1, 2, 3, 4]},
        {"content": b""},
        {"kind": "O"},
        {"kind": "O8"},
        {"kind": "V4"},
        {"kind": "S4"},
        {"kind": "M8"},
        {"kind": "c8"},
        {"kind": "u1,O"},
        {"kind": "(4,)u1"},
        {"kind": 7},
        {"type_state": (3, "|", None, ("a",), {"a": ("O", 0)}, 4, 1, 27)},
        {"type_state": (3, "|", ("u1", (4,)), None, None, 4, 1, 0)},
        {"type_state": (3, "x", None, None, None, -1, -1, 0)},
        {"type_state": {"fields": None}},
    ],
    ids=str,
)
def test_an_array_whose_sizes_or_type_are_wrong_is_refused(changes: dict[str, Any]) -> None:
    """Among them those with which numpy's own constructors would read beyond the content, or take it for pointers."""
    with refused() as messages:
        arrays_of(array_with(**changes), ["data"], path=BATCH)
    assert messages[0].startswith("batch cannot be read as a pickle of arrays: it ")


@pytest.mark.parametrize(
    "value",
    [
        Hostile(np.ndarray, (4,), np.dtype("u1"), b"abcd", -1000),
        Hostile(np.dtype, [("a", "O")]),
        Hostile(np._core.multiarray._reconstruct, np.ndarray, (1_000_000_000,), b"d"),
        Hostile(np._core.multiarray.scalar, np.dtype("u8"), b"abcd"),
        Hostile(np._core.multiarray.scalar, np.dtype("O"), b"abcdefgh"),
        Hostile(np._core.numeric._frombuffer, b"abcd", np.dtype("u8"), (1,), "C"),
        [[1, 2], [3]],
        ["a"],
        [2**70],
        "text",
        None,
        {"nested": 1},
    ],
    ids=str,
)
def test_a_value_that_is_no_array_or_is_called_otherwise_is_refused(value: object) -> None:
    with refused() as messages:
        arrays_of(pickle.dumps({"data": value}), ["data"], path=BATCH)
    assert "batch cannot be read as a pickle of arrays: it" in messages[0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "it ends too early"),
        (b"}", "it ends too early"),
        (b"0.", "takes a value that it does not have"),
        (b"u.", "takes values that it does not have"),
        (b"(.", "takes a value that it does not have"),
        (b"]K\x01K\x02s.", "adds to something that is no dict"),
        (b"}(K\x01u.", "a key without a value"),
        (b"}]Ns.", "a list as key"),
        (b"}\x8a\x08" + b"\xff" * 7 + b"\x1fNs.", "an? int as key"),
        (b"h\x05.", "recalls a value"),
        (b"q\x05.", "remembers a value"),
        (b"B" + b"\xff" * 4 + b"abc.", "it ends too early"),
        (b"\x8e" + b"\xff" * 8 + b"abc.", "it ends too early"),
        (b"I" + b"9" * 5000 + b"\n.", "Exceeds the limit"),
        (b"Fx\n.", "could not convert"),
        (b"X\x01\x00\x00\x00\xff.", "codec can't decode"),
        (b"S'abc\n.", "without quotes"),
        (b"\x82\x01.", "the instruction b'\\\\x82'"),
        (b"(ios\nsystem\n.", "the instruction b'i'"),
        (b"NN\x81.", "the instruction b'\\\\x81'"),
        (b"NNb.", "fields, which is not an array of numbers"),
        (b"NNR.", "calls something without arguments"),
        (b"K\x05K\x06\x93.", "a name that is no text"),
        (b"NQ.", "a value outside the file"),
    ],
)
def test_what_is_no_pickle_is_refused_by_its_fault(content: bytes, named: str) -> None:
    with refused() as messages:
        arrays_of(content, ["data"], path=BATCH)
    assert re.match(rf"batch cannot be read as a pickle of arrays: .*{named}", messages[0]), messages[0]


DEEP = 40_000


@pytest.mark.parametrize(
    "content",
    [
        b"r\xff\xff\xff\xff" * DEEP + b".",
        b"}" + b"r\xff\xff\xff\xff" * DEEP + b".",  # CPython's memory would have 2^33 places
        b"]" + b"\x85" * DEEP + b".",  # tuples in tuples
        b"}" + b"N" + b"\x85" * DEEP + b"Ns.",  # and as a key, whose hash would need the C stack
        b"(" * DEEP + b"l" * DEEP + b".",
        b"]q\x000" + b"".join(b"(" + b"h\x00" * 9 + b"lq\x000" for _ in range(DEEP // 12)) + b"}X\4\0\0\0datah\x00s.",
        # One text of 100 kB, encoded thousands of times.
        b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x01X\6\0\0\0latin1q\x02"
        + b"h\x00h\x01h\x02\x86R" * 5000 + b".",
    ],
    ids=["no value", "places of memory", "tuples", "key", "lists", "lists of one list", "encoded again"],
)  # fmt: skip
def test_a_bomb_is_refused_at_the_cost_of_its_size(content: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    with refused():
        arrays_of(content, ["data"], path=BATCH)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120 * len(content)
    assert time.process_time() - started < 10


def test_a_pickle_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "_MAX_INSTRUCTIONS", 100)
    assert arrays_of(pickle.dumps({"data": [1] * 40}), ["data"], path=BATCH)["data"].tolist() == [1] * 40
    with refused() as messages:
        arrays_of(pickle.dumps({"data": [1] * 100}), ["data"], path=BATCH)
    assert "more than 100 values outside arrays" in messages[0]


def test_a_pipe_in_the_place_of_a_pickle_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with refused() as messages:
        load_array_dict(tmp_path / "pipe", ["data"])
    assert messages[0] == f"cannot read {tmp_path}/pipe: it is not a regular file"
    with refused():
        load_array_dict(Path("/dev/zero"), ["data"])
