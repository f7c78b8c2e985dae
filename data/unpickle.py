"""Reading other people's pickles without running their code.

The official CIFAR batches are pickles. A pickle can name any function and have
it called, so this reader admits the few names that arrays of numbers need and
refuses all others.
"""

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from conf.errors import UserError

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


def load_arrays(file: IO[bytes], *, path: Path) -> Any:
    """The object in a pickle of plain containers and numpy arrays; Python 2 strings become bytes.

    path is only for the message. Raises UserError if the pickle is damaged or names anything else.
    """
    try:
        return _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise UserError(f"{path} cannot be read as a pickle of arrays: {error}; get the file again") from None
