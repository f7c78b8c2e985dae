"""The lines that a stream of predictions prints."""

import datetime
import sys

from longtail.conf.base.shown_text import printable


def print_batch(num_images: int) -> None:
    """How many images a micro-batch had, with a prediction."""
    print(f"{num_images} images predicted", flush=True)


def print_window(start: datetime.datetime, findings: list[str]) -> None:
    """A window that has ended; what differs is an alert on standard error."""
    shown = f"window of {start:%Y-%m-%d %H:%M:%S} UTC"
    for line in findings:
        print(printable(f"alert: {shown}: {line}"), file=sys.stderr, flush=True)
    if not findings:
        print(f"{shown}: as before", flush=True)
