"""The result of `pipeline` in a terminal: test accuracy with and without pseudo-labels."""

from typing import Any

from rich.table import Table

from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.scores import scores_line
from longtail.spark_jobs.display.tables import percent, signed_percent


def print_comparison(base: dict[str, Any], semi: dict[str, Any]) -> None:
    """Print test accuracy per class at the last epoch, and its change by pseudo-labels.

    base, semi: results of the runs with labels alone and with pseudo-labels
    """
    before, after = base["splits"][TEST], semi["splits"][TEST]
    table = Table()
    for heading in ("class", "shots", "labelled", "with pseudo-labels", "base %", "semi %", "change"):
        table.add_column(heading, justify="left" if heading in ("class", "shots") else "right")
    columns = zip(
        base["class_names"], base["shot_groups"], base["class_counts"], semi["class_counts"],
        before["class_accuracy"], after["class_accuracy"], strict=True,
    )  # fmt: skip
    for name, group, *counts, old, new in columns:
        change = None if old is None or new is None else new - old
        table.add_row(name, group, *map(str, counts), percent(old), percent(new), signed_percent(change))
    terminal = console()
    terminal.print("test accuracy with labels alone (base) and with pseudo-labels (semi)")
    terminal.print(table)
    terminal.print(f"base: {scores_line(before)}", soft_wrap=True)
    terminal.print(f"semi: {scores_line(after)}", soft_wrap=True)
