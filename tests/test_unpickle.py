"""The reader of other people's pickles: arrays yes, code no."""

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtail.data.unpickle import load_arrays
from tests.refusals import refused


class Hostile:
    """Runs a command of the shell when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({b"data": Hostile(f"touch {trace}")}, protocol=protocol)
    with refused() as messages:
        load_arrays(io.BytesIO(content), path=Path("batch"))
    assert re.search(r"batch cannot be read .* it names \w+\.system", messages[0])
    assert not trace.exists()
    # The pickle is a working one: read without care, it leaves its trace.
    pickle.loads(content)
    assert trace.exists()


@pytest.mark.parametrize("value", [eval, np.load, np.ndarray.tofile, Path("x"), np.random.default_rng(0)])
def test_a_pickle_of_anything_but_arrays_is_refused(value: object) -> None:
    with refused() as messages:
        load_arrays(io.BytesIO(pickle.dumps(value)), path=Path("batch"))
    assert "not an array of numbers" in messages[0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_read(protocol: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    content = {
        b"data": pixels,
        b"fortran": np.asfortranarray(pixels),
        b"scalar": np.float64(0.25),
        b"floats": np.array([1.5, -2.0], ">f4"),
        b"labels": [7, 2],
    }
    got = load_arrays(io.BytesIO(pickle.dumps(content, protocol=protocol)), path=Path("batch"))
    assert got.keys() == content.keys()
    assert all(np.array_equal(got[key], content[key]) for key in content)
    assert got[b"data"].dtype == np.uint8
