"""The result of `theory` in a terminal: one table per sweep, at most 80 columns wide."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from longtail.conf.theory_grid import Sweep
from longtail.training.theory.evaluation import Row
from longtail.training.theory.statements import verdict

_EVENTS = {
    "T1": "share: repetitions whose threshold is within delta of its prediction\nbound: its lower bound",
    "T2": "share: samples that sign(<t, X> + c) classifies wrongly\nbound: its lower bound if c > 0",
    "T3": "share: repetitions whose error is within the error bound\nbound: its lower bound",
}
_FURTHER_COLUMNS = {
    "T1": {"mean": ("mean\nbias", ".4f"), "predicted_mean": ("expected", ".2f")},
    "T2": {"exact": ("by\nformula", ".4f")},
    "T3": {"mean": ("mean\nerror", ".1e"), "error_bound": ("error\nbound", ".1e")},
}
"""Further columns: heading and format."""
_HEADINGS = {
    "num_unlabeled": "n", "rho_unlabeled": "rho_U", "p_positive": "p+", "dimension": "d", "epsilon": "eps",
    "num_positive": "N+", "num_negative": "N-", "t_norm": "|t|",
}  # fmt: skip
_STYLES = {"holds": "green", "fails": "red", "undecided": "yellow", "vacuous": "dim"}


def sweep_table(sweep: Sweep, rows: Sequence[Row]) -> Table:
    """A table of the rows (RESULT_SCHEMA) of a sweep, one per point.

    Columns: the parameters that vary, the measured share with its interval, the bound and the verdict; then the mean of
    the measured quantity, and its expected value or bound.
    """
    names = {name: _HEADINGS.get(name, name) for name in sweep.parameters}
    varied = [name for name in names if len({row[name] for row in rows}) > 1]
    fixed = ", ".join(f"{heading} {rows[0][name]:g}" for name, heading in names.items() if name not in varied)
    represented = sum(row["represented_draws"] for row in rows)
    table = Table(
        title=f"{sweep.theorem}, {sweep.name}: {fixed}\n{_EVENTS[sweep.theorem]}\n"
        f"{rows[0]['repetitions']:,} repetitions per point, which represent {represented:.3g} samples X in total",
        title_justify="left",
        title_style="",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    further = _FURTHER_COLUMNS[sweep.theorem]
    for heading in (*(names[name] for name in varied), "share", "interval", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading, _ in further.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found = verdict(row)
        table.add_row(
            *(f"{row[name]:g}" for name in varied),
            f"{row['empirical']:.4f}",
            f"{row['low']:.4f}-{row['high']:.4f}",
            f"{row['bound']:.3f}",
            Text(found, style=_STYLES[found.partition(" ")[0]]),
            *(f"{row[name]:{form}}" for name, (_, form) in further.items()),
        )
    return table
