"""The terminal that all output of jobs goes to."""

from functools import cache

from rich.console import Console


@cache
def console() -> Console:
    """The process's terminal. Text is shown as it is: a class may be called `[/b]` or `:cat:`, which is no markup."""
    return Console(markup=False, emoji=False)
