"""Summary of the results in sentences, with numbers of points."""

from collections import Counter
from collections.abc import Sequence

from longtail.training.theory.evaluation import Row


def verdict(row: Row) -> str:
    """Return the judgement of a point in a word or two."""
    judged = "vacuous" if row["vacuous"] else {True: "holds", False: "fails", None: "undecided"}[row["holds"]]
    return judged if row["conditions_met"] else f"{judged} (c <= 0)"


def statements(rows: Sequence[Row], *, confidence: float) -> list[str]:
    """Summarise the rows of each theorem; confidence: confidence level of the rows' intervals."""
    interval = f"{100 * confidence:g} % interval"
    by_theorem = {name: [row for row in rows if row["theorem"] == name] for name in ("T1", "T2", "T3")}
    sentences = []
    if t1 := by_theorem["T1"]:
        sentences += [f"T1: {_judgement(t1)}", _threshold_bias(t1, interval)]
    if t2 := by_theorem["T2"]:
        if inside := [row for row in t2 if row["conditions_met"]]:
            least = min(row["empirical"] for row in inside)
            sentences.append(f"T2: {_judgement(inside)} The smallest measured error is {least:.4f}.")
        if outside := [row for row in t2 if not row["conditions_met"]]:
            sentences.append(_without_condition(outside))
        within = sum(row["low"] <= row["exact"] <= row["high"] for row in t2)
        sentences.append(f"T2: the error by formula lies in the {interval} at {within} of {_points(t2)}.")
    if t3 := by_theorem["T3"]:
        sentences += [f"T3: {_judgement(t3)}", _within_error_bound(t3)]
    return sentences


def _judgement(rows: Sequence[Row]) -> str:
    """Count points by judgement; a miss is a repetition without the event."""
    counts = Counter("vacuous" if row["vacuous"] else row["holds"] for row in rows)
    sentence = f"the bound holds at {counts[True]} of {_points(rows)}, fails at {counts[False]}"
    if counts["vacuous"]:
        sentence += f", is vacuous (says nothing) at {counts['vacuous']}"
    if counts[None]:
        no_miss = sum(row["holds"] is None and not row["vacuous"] and row["empirical"] == 1 for row in rows)
        sentence += f", is too close to tell at {counts[None]} (without a miss at {no_miss})"
    return f"{sentence}."


def _threshold_bias(rows: Sequence[Row], interval: str) -> str:
    within = sum(row["mean_low"] <= row["predicted_mean"] <= row["mean_high"] for row in rows)
    furthest = max(abs(row["mean"] - row["predicted_mean"]) for row in rows)
    return (
        f"T1: the mean bias of the threshold is D (mu1 - mu2)/2 within {furthest:.2g} at all {_points(rows)}; "
        f"the mean's {interval} has that value inside at {within}."
    )


def _without_condition(rows: Sequence[Row]) -> str:
    below = [row for row in rows if row["holds"] is False]
    if not below:
        return f"T2 without its condition (c <= 0): no error below 1/4 at {_points(rows)}."
    least = min(below, key=lambda row: row["empirical"])
    return (
        f"T2 without its condition (c <= 0): the error is below 1/4 at {len(below)} of {_points(rows)}, "
        f"{least['empirical']:.4f} at c = {least['c']:g}, p+ = {least['p_positive']:g}: c > 0 is needed."
    )


def _within_error_bound(rows: Sequence[Row]) -> str:
    beyond = sum(row["largest"] > row["error_bound"] for row in rows)
    return (
        f"T3: the error of all repetitions stays within the error bound at {len(rows) - beyond} of {_points(rows)}"
        + (f"; it goes beyond at {beyond}." if beyond else ".")
    )


def _points(rows: Sequence[Row]) -> str:
    return f"{len(rows)} point{'' if len(rows) == 1 else 's'}"
