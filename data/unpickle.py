"""Reading other people's pickles without running their code.

The official CIFAR batches are pickles. A pickle can name any function and have
it called, so this reader admits the few names that arrays of numbers need and
refuses all others.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from longtail.conf.base.errors import UserError

_ADMITTED = {
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
        if (module, name) in _ADMITTED:
            # Old pickles name numpy's internals by their old place.
            return getattr(np, name) if module == "numpy" else super().find_class(_current(module), name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array of numbers")


def _current(module: str) -> str:
    return module.replace("numpy.core.", "numpy._core.")


def load_array_dict(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays under ``keys`` of a pickled dict; its keys may be text of Python 3 or 2.

    Raises UserError if the file cannot be read or lacks one.
    """
    try:
        with path.open("rb") as file:
            content = load_arrays(file, path=path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, a dict of {', '.join(keys)} was expected")
    named = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    if missing := [key for key in keys if key not in named]:
        raise UserError(f"{path} has no {', '.join(missing)}: it holds {', '.join(sorted(map(str, named)))}")
    return {key: np.asarray(named[key]) for key in keys}


def load_arrays(file: IO[bytes], *, path: Path) -> Any:
    """The object in a pickle of plain containers and numpy arrays; Python 2 strings become bytes.

    path is only for the message. Raises UserError if the pickle is damaged or names anything else.
    """
    try:
        return _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise UserError(f"{path} cannot be read as a pickle of arrays: {error}; get the file again") from None
