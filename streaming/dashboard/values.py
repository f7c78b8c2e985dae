"""The texts and numbers of the page, ready for its templates, from rows of the result tables."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.dashboard.configurations import options_in
from longtail.streaming.dashboard.phases import CLASSES, CONTRASTIVE, TASK, KeyFigure, kind_of_run, learns_nothing
from longtail.streaming.dashboard.table_rows import Row
from longtail.streaming.tables.descriptions import RunDescription
from longtail.streaming.tables.query_rows import OWN_RULE
from longtail.streaming.tables.schemas import SPLITS

_EMITTED_AT = re.compile(r'"emitted_at":\s*([0-9]+(?:\.[0-9]*)?)')
MAX_ALERTS = 50
"""In one list."""
_UNITS = {"label_bias": "nats", "loss": "nats", "positive_rank": ""}
"""By score; all others are shares."""
_CARD_COLUMNS = sorted({figure.column for kind in (CLASSES, TASK, CONTRASTIVE) for figure in kind.card})


@dataclass(frozen=True)
class Score:
    """A key figure.

    change: difference from the previous epoch; better: whether that is an improvement; None if there is no change
    """

    name: str
    text: str
    unit: str
    change: str | None
    better: bool | None
    group: str | None


@dataclass(frozen=True)
class RunCard:
    """A run in the list of runs.

    progress: share of the epochs that are finished
    scores: on the selected split, empty without any epoch
    title: the user's name for the run, otherwise what it is and how it differs from others (titles.py)
    about: the latter if the user has named the run, otherwise what the title does not say of its method
    num_bad_lines: its lines in the quarantine
    """

    run: str
    title: str
    about: str
    status: str
    message: str
    epoch: int
    num_epochs: int
    progress: float
    updated_at: float
    scores: list[Score]
    num_alerts: int
    description: RunDescription
    num_bad_lines: int


def scores_by_run(latest: pa.Table, runs: Sequence[str]) -> dict[str, dict[str, Row]]:
    """The scores that cards show, by run and split.

    latest: rows of `epochs` at the latest epoch of each run and split
    """
    found: dict[str, dict[str, Row]] = {run: {} for run in runs}
    of_runs = latest.filter(pc.is_in(latest["run"], pa.array(runs, pa.string())))
    for row in of_runs.select(["run", "split", *_CARD_COLUMNS]).to_pylist():
        found[row["run"]][row["split"]] = row
    return found


def run_card(
    row: Row,
    scores_by_split: Mapping[str, Row],
    *,
    title: str,
    split: str | None,
    description: RunDescription,
    num_alerts: int,
    num_bad_lines: int,
) -> RunCard:
    """The card of a run.

    row: its row of `runs`
    scores_by_split: its scores (scores_by_run)
    title: its own (titles.run_titles)
    split: None for the default split of the run
    """
    run = row["run"]
    shown = split if split in scores_by_split else next((one for one in SPLITS if one in scores_by_split), None)
    scores: Row = scores_by_split[shown] if shown else {}
    options, kind = options_in(row["configuration"]), kind_of_run(row["phase"])
    of_training = () if learns_nothing(row["phase"], options) else ("loss_type", "train_rule")
    method = [str(options.get(name, "None")) for name in ("arch", "method", *of_training)]
    untold = [part for part in method if part != "None" and f" · {part}" not in title]
    return RunCard(
        run=run,
        title=description.display_name or title,
        about=title if description.display_name else " · ".join(untold),
        status=row["status"],
        message=row["message"] or "",
        epoch=row["epoch"] or 0,
        num_epochs=row["num_epochs"] or 0,
        progress=(row["epoch"] or 0) / row["num_epochs"] if row["num_epochs"] else 0.0,
        updated_at=row["updated_at"] or 0.0,
        scores=[_score(figure, scores, {}) for figure in kind.card if scores.get(figure.column) is not None],
        num_alerts=num_alerts,
        description=description,
        num_bad_lines=num_bad_lines,
    )


def bad_lines_by_run(quarantine: pa.Table, deleted_at: Mapping[str, float]) -> Counter[str | None]:
    """How many lines of the quarantine are of each run; of none, those of a run that was deleted later."""

    def run_of(row: Row) -> str | None:
        emitted = _EMITTED_AT.search(row["line"]) if row["run"] in deleted_at else None
        return None if emitted and float(emitted[1]) <= deleted_at[row["run"]] else row["run"]

    return Counter(map(run_of, quarantine.select(["run", "line"]).to_pylist()))


def shown_alerts(alerts: pa.Table) -> list[Row]:
    """The title, message and place (split and epoch) of at most MAX_ALERTS alerts: own ones last, the newest first."""
    rows = alerts.to_pylist()
    own = [row for row in rows if row["rule"].startswith(OWN_RULE)]
    others = [{**row, "rule": row["rule"].replace("_", " ")} for row in rows if not row["rule"].startswith(OWN_RULE)]
    return [
        {
            "title": row["rule"],
            "message": row["message"],
            "place": ", ".join(filter(None, (row["split"], f"epoch {row['epoch']}" if row["epoch"] else None))),
        }
        for row in [*others, *reversed(own)][:MAX_ALERTS]
    ]


def key_figures(epochs: pa.Table, figures: Sequence[KeyFigure]) -> list[Score]:
    """These scores of the latest epoch, with the change from the previous one.

    epochs: rows of one run and split
    """
    rows = sorted(epochs.to_pylist(), key=lambda row: row["epoch"])[-2:]
    if not rows:
        return []
    return [_score(figure, rows[-1], rows[0] if len(rows) > 1 else {}) for figure in figures]


def pseudo_label_figures(latest: pa.Table) -> list[Score]:
    """How many of the unlabeled images have a confident pseudo-label, and how many of these are right.

    latest: class_epochs of the split `unlabeled` at one epoch
    """
    predicted, support = (pc.sum(latest[name]).as_py() or 0 for name in ("predicted", "support"))
    if not support:
        return []
    right = pc.sum(pc.multiply(latest["accuracy"], latest["support"])).as_py() or 0.0
    shares = {
        "unlabeled images used": predicted / support,
        "pseudo-labels right": right / predicted if predicted else None,
    }
    return [
        Score(name=name, text=number(share, "%"), unit="%", change=None, better=None, group=None)
        for name, share in shares.items()
    ]


def _score(figure: KeyFigure, latest: Row, before: Row) -> Score:
    value, previous, change, better = latest[figure.column], before.get(figure.column), None, None
    if figure.rises is not None and value is not None and previous is not None and is_visible(value - previous):
        change = difference_text(value - previous, figure.unit)
        better = value > previous if figure.rises else abs(value) < abs(previous)
    text = score_text(value, figure.column)
    return Score(name=figure.name, text=text, unit=figure.unit, change=change, better=better, group=figure.group)


def is_visible(change: float) -> bool:
    """A smaller change would be shown as "+0.0", and an infinite value has no change."""
    return math.isfinite(change) and abs(change) >= 0.0005


def number(value: float | None, unit: str) -> str:
    """A share in % or points, a value in nats, or a rank; a dash for None."""
    if value is None:
        return "–"
    if not unit:
        return f"{value:,.1f}"
    return f"{value:.3f}" if unit == "nats" else f"{100 * value:.1f}"


def difference_text(difference: float, unit: str) -> str:
    """The difference of two scores, of shares in points, with its sign."""
    factor, digits = {"nats": (1, 3), "": (1, 1)}.get(unit, (100, 1))
    return f"{factor * difference:+.{digits}f}"


def score_text(value: float | None, name: str) -> str:
    """A score with its usual number of digits; a dash for None."""
    if name == "images_per_second":
        return "–" if value is None else f"{value:,.0f}"
    return number(value, _UNITS.get(name, "%"))


def mean_text(values: Sequence[float], name: str) -> str:
    """Mean and, of several values, standard deviation; empty without any."""
    if not values:
        return ""
    spread = f" ± {score_text(stdev(values), name)}" if len(values) > 1 else ""
    return score_text(mean(values), name) + spread


def largest_confusions(confusion: pa.Table, classes: pa.Table, *, group: str, limit: int) -> list[Row]:
    """The largest off-diagonal cells of true classes in a shot group: classes and share of the true class.

    classes: class_id, class_name, shot_group, support, one row per class
    """
    by_id = {row["class_id"]: row for row in classes.to_pylist()}
    confusions = []
    for cell in confusion.filter(pc.not_equal(confusion["true_class"], confusion["predicted_class"])).to_pylist():
        true, predicted = by_id.get(cell["true_class"]), by_id.get(cell["predicted_class"])
        if true and predicted and true["support"] and cell["count"] and group in ("all", true["shot_group"]):
            confusions.append(
                {
                    "true_class": cell["true_class"],
                    "predicted_class": cell["predicted_class"],
                    "true": true["class_name"],
                    "predicted": predicted["class_name"],
                    "share": cell["count"] / true["support"],
                    "count": cell["count"],
                }
            )
    ordered = sorted(confusions, key=lambda row: (-row["share"], -row["count"], row["true"], row["predicted"]))
    return ordered[:limit]
