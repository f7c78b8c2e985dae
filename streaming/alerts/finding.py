"""Finds the alerts of a run in its result tables. No Spark: these are a few rows, and a Spark action costs 0.1 s."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.alerts.rule import AlertTables, Found, Row, Rule
from longtail.streaming.alerts.rules import AlertRules


def find_alerts(run: str, tables: AlertTables, rules: AlertRules) -> list[Row]:
    """The alerts of a run as rows of the table `alerts`, sorted by rule, split and message.

    tables: of `epochs` the last num_epochs_needed(rules) epochs of each split are enough
    """
    histories = list(_histories(tables.epochs, num_epochs_needed(rules)))
    rows = []
    for name, rule in rules.active().items():
        found = [*rule.find(tables), *_found_in(histories, rule)]
        rows += [{"run": run, **alert._asdict(), "rule": name} for alert in found]
    return sorted(rows, key=lambda row: (row["rule"], row["split"], row["message"]))


def _found_in(histories: Sequence[Sequence[Row]], rule: Rule) -> Iterator[Found]:
    for history in histories:
        if message := rule.check_epoch(history):
            yield Found(history[-1]["split"], history[-1]["epoch"], message)


def num_epochs_needed(rules: AlertRules) -> int:
    """How many of the latest epochs the rules look at."""
    return 1 + max((rule.num_earlier_epochs for rule in rules.active().values()), default=0)


def _histories(epochs: pa.Table, num_epochs: int) -> Iterator[list[Row]]:
    """The rows of the last epochs of each split, the latest one last."""
    for split in epochs["split"].unique().to_pylist():
        of_split = epochs.filter(pc.equal(epochs["split"], split))
        last = pc.sort_indices(of_split["epoch"])[-num_epochs:]
        yield of_split.take(last).to_pylist()
