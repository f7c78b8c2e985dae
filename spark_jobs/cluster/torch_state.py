"""The state of torch in a Python worker, which Spark also gives to other code of the same application."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_as_found(*, threads: int) -> Iterator[None]:
    """In a task: torch computes in these many threads in the block; then they and its random numbers are as before."""
    import torch  # only the tasks need it

    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
