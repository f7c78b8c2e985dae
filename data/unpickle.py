"""Read untrusted pickles of arrays without running their code.

The official CIFAR batches are pickles. A pickle can call any function by its name, so that this reader allows only the
few names that arrays of numbers need.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from longtail.conf.base.errors import UserError

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            # Old pickles have the old names of numpy's internal modules.
            return getattr(np, name) if module == "numpy" else super().find_class(_current(module), name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array of numbers")


def _current(module: str) -> str:
    return module.replace("numpy.core.", "numpy._core.")


def load_array_dict(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays at ``keys`` of a pickled dict, whose keys may be strings of Python 3 or 2.

    Raises UserError if the file cannot be read or lacks a key.
    """
    try:
        with path.open("rb") as file:
            content = load_arrays(file, path=path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} has a {type(content).__name__}, a dict of {', '.join(keys)} was expected")
    named = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    if missing := [key for key in keys if key not in named]:
        raise UserError(f"{path} has no {', '.join(missing)}: it has {', '.join(sorted(map(str, named)))}")
    return {key: np.asarray(named[key]) for key in keys}


def load_arrays(file: IO[bytes], *, path: Path) -> Any:
    """The object in a pickle of plain containers and numpy arrays; Python 2 strings become bytes.

    path: for messages alone

    Raises UserError if the pickle is damaged or contains anything else.
    """
    try:
        return _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise almost any exception
        raise UserError(f"{path} cannot be read as a pickle of arrays: {error}; get the file again") from None
