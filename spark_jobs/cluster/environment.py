"""Environment variables for a block of code alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def added_environment(**variables: str) -> Iterator[None]:
    """Set those environment variables that are not set, in the block alone: a process that it starts keeps them."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
