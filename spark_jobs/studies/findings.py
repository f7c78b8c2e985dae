"""What an experiment says about each axis, in words: a gain, a loss, or that the data cannot tell."""

from collections.abc import Sequence

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.comparisons import CONFIDENCE, Comparison, compare_levels
from longtail.spark_jobs.studies.power import EQUAL, POWER, detectable_difference, deviation_of_axis
from longtail.spark_jobs.studies.trial_row import Row

COMPARED_SCORES = {"balanced_accuracy": "balanced accuracy", "few_shot_accuracy": "few-shot accuracy"}
GAIN, LOSS, CANNOT_TELL = "a gain", "a loss", "can't tell"


def verdict(comparison: Comparison) -> str:
    """Whether the data supports a gain, a loss, or neither."""
    if not comparison.is_supported:
        return CANNOT_TELL
    return GAIN if comparison.mean > 0 else LOSS


def compared(experiment: Experiment, rows: Sequence[Row]) -> dict[str, list[Comparison]]:
    """The comparisons of all levels with the first of their axis, by score."""
    return {score: compare_levels(experiment, rows, score=score) for score in COMPARED_SCORES}


def findings(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """One line per level compared with the first of its axis: by how much it differs in each score, and how sure."""
    lines: dict[tuple[str, str], list[str]] = {}
    for score, comparisons in compared(experiment, rows).items():
        for comparison in comparisons:
            deviation = deviation_of_axis(comparisons, comparison.axis)
            line = lines.setdefault((comparison.axis, f"{comparison.level} against {comparison.against}"), [])
            line.append(f"{COMPARED_SCORES[score]}: {_answer(comparison, deviation)}")
    found = [f"{axis}: {levels}: {'; '.join(answers)}." for (axis, levels), answers in lines.items()]
    return found or ["No axis has trials at two levels: there is nothing to compare."]


def _answer(comparison: Comparison, deviation: float | None) -> str:
    change = f"{100 * comparison.mean:+.1f} points"
    of = f"{comparison.num_pairs} pairs, {comparison.num_seeds} seed{'s' if comparison.num_seeds > 1 else ''}"
    if len(comparison.by_setting) > 1:
        of += f", higher in {comparison.num_higher} of {len(comparison.by_setting)} settings"
    said = f"**{verdict(comparison)}**, {change}"
    if comparison.p_value is None:
        return f"{said} ({of}: one seed allows no test)"
    interval = _interval(comparison)
    text = "no interval of so few or equal pairs" if interval is None else f"{CONFIDENCE:.0%} interval {interval}"
    sure = f"{text}, p {_p(comparison.p_value)}, {of}"
    # Equal differences do not tell how much others vary.
    if comparison.is_supported or deviation is None or deviation <= EQUAL:
        return f"{said} ({sure})"
    smallest = detectable_difference(deviation, comparison.num_seeds)
    assert smallest is not None, "there are two seeds or more"
    return f"{said} ({sure}; {comparison.num_seeds} seeds show {100 * smallest:.1f} or more)"


DIFFERENCE_HEADER = (
    "axis", "level", "against", "score", "difference", "interval", "p", "pairs", "seeds", "settings higher", "verdict",
)  # fmt: skip
NUM_TEXT_COLUMNS = 4


def difference_cells(comparison: Comparison) -> list[str]:
    """The line of a comparison in a table with DIFFERENCE_HEADER; differences in points."""
    return [
        comparison.axis, comparison.level, comparison.against, COMPARED_SCORES[comparison.score],
        f"{100 * comparison.mean:+.1f}", _interval(comparison) or "-",
        "-" if comparison.p_value is None else _p(comparison.p_value).removeprefix("= "),
        str(comparison.num_pairs), str(comparison.num_seeds),
        f"{comparison.num_higher} of {len(comparison.by_setting)}", verdict(comparison),
    ]  # fmt: skip


def _interval(comparison: Comparison) -> str | None:
    if comparison.low is None or comparison.high is None:
        return None
    return f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"


def _p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def how_to_read(by_score: dict[str, list[Comparison]]) -> str:
    """What the words and numbers of the findings mean."""
    number = sum(map(len, by_score.values()))
    return (
        f"**{GAIN.capitalize()}** or **{LOSS}** is said only if the {CONFIDENCE:.0%} interval of the paired "
        f"differences excludes zero and Student's t-test over the means of the seeds agrees (p < "
        f"{1 - CONFIDENCE:.2f}). **{CANNOT_TELL.capitalize()}** does not mean that there is no difference: it may be "
        f"of either sign, and of any size in the interval. The number of points that the seeds show is the size from "
        f"which a difference is found {POWER:.0%} of the time, judged by how much the differences vary between seeds; "
        f"smaller ones need more seeds. p is how often pure chance gives as large a difference. The {number} "
        f"comparisons here are {number} chances to be wrong: of 20 differences that are nothing but chance, one is "
        f"called a gain or a loss."
    )
