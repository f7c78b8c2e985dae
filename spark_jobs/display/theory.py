"""The result of `theory` as a person sees it in a terminal: a table a sweep, 80 columns wide."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from longtail.conf.theory_grid import Sweep
from longtail.training.theory.evaluation import Row
from longtail.training.theory.statements import verdict

_EVENTS = {
    "T1": "share: of repetitions whose threshold is within delta of its prediction\nbound: its least value",
    "T2": "share: of samples that sign(<t, X> + c) is wrong about\nbound: its least value if c > 0",
    "T3": "share: of repetitions whose error is within the error bound\nbound: its least value",
}
_FURTHER = {
    "T1": {"mean": ("mean\nbias", ".4f"), "predicted_mean": ("expected", ".2f")},
    "T2": {"exact": ("by\nformula", ".4f")},
    "T3": {"mean": ("mean\nerror", ".1e"), "error_bound": ("error\nbound", ".1e")},
}
"""By column: its heading and format."""
_HEADINGS = {
    "num_unlabeled": "n", "rho_unlabeled": "rho_U", "p_positive": "p+", "dimension": "d", "epsilon": "eps",
    "num_positive": "N+", "num_negative": "N-", "t_norm": "|t|",
}  # fmt: skip
_STYLES = {"holds": "green", "fails": "red", "undecided": "yellow", "vacuous": "dim"}


def sweep_table(sweep: Sweep, rows: Sequence[Row]) -> Table:
    """Columns: the parameters that differ within the sweep, the measured share, its interval, the bound, the verdict;
    then the mean of what is measured besides, and what it should be or stay below."""
    names = {name: _HEADINGS.get(name, name) for name in sweep.parameters}
    varied = [name for name in names if len({row[name] for row in rows}) > 1]
    fixed = ", ".join(f"{heading} {rows[0][name]:g}" for name, heading in names.items() if name not in varied)
    represented = sum(row["represented_draws"] for row in rows)
    table = Table(
        title=f"{sweep.theorem}, {sweep.name}: {fixed}\n{_EVENTS[sweep.theorem]}\n"
        f"{rows[0]['repetitions']:,} repetitions a point; all together stand for {represented:.3g} samples X",
        title_justify="left",
        title_style="",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    further = _FURTHER[sweep.theorem]
    for heading in (*(names[name] for name in varied), "share", "interval", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading, _ in further.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        said = verdict(row)
        table.add_row(
            *(f"{row[name]:g}" for name in varied),
            f"{row['empirical']:.4f}",
            f"{row['low']:.4f}-{row['high']:.4f}",
            f"{row['bound']:.3f}",
            Text(said, style=_STYLES[said.partition(" ")[0]]),
            *(f"{row[name]:{form}}" for name, (_, form) in further.items()),
        )
    return table
