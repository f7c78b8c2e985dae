"""Class shares that predictions were made for, in the terminal."""

from collections.abc import Sequence

from rich.table import Table

from longtail.conf.base.shown_text import printable
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import MAX_CLASSES_SHOWN, percent


def print_class_shares(
    class_names: Sequence[str],
    shares: Sequence[float],
    *,
    low: Sequence[float] | None,
    high: Sequence[float] | None,
    num_images: int | None,
) -> None:
    """A row for each class, the largest share first; low, high: the ends of intervals, of an estimate."""
    table = Table()
    for heading in ("class", "share %", *(["95 % interval"] if low is not None else [])):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    order = sorted(range(len(shares)), key=lambda number: -shares[number])
    for number in order[:MAX_CLASSES_SHOWN]:
        interval = (
            [f"{percent(low[number])} to {percent(high[number])}"] if low is not None and high is not None else []
        )
        table.add_row(printable(class_names[number]), percent(shares[number]), *interval)
    if len(order) > MAX_CLASSES_SHOWN:
        table.caption = f"{MAX_CLASSES_SHOWN} of {len(order)} classes"
    if num_images is not None:
        console().print(f"class shares, estimated from {num_images} images:")
    console().print(table)
