"""The table of scores that a paper needs, as CSV and LaTeX: mean and sample standard deviation over the seeds."""

import csv
import io
from collections.abc import Sequence

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.arms import REPORTED_SCORES, Arm

_CSV_NAMES = {score: score.removesuffix("_accuracy").removesuffix("_shot") for score in REPORTED_SCORES}
_LATEX_NAMES = {"balanced": "All", "many": "Many", "medium": "Medium", "few": "Few"}
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def scores_csv(experiment: Experiment, arms: Sequence[Arm]) -> str:
    """One line per arm: its levels, the number of seeds, mean and deviation of each score in percent; empty without."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{name}_{part}" for name in _CSV_NAMES.values() for part in ("mean", "deviation")]
    writer.writerow([*experiment.axes, "seeds", *names])
    for arm in arms:
        numbers = [number for score in REPORTED_SCORES for number in (arm.mean(score), arm.deviation(score))]
        cells = ["" if number is None else f"{100 * number:.2f}" for number in numbers]
        writer.writerow([*arm.levels.values(), len(arm.rows), *cells])
    return text.getvalue()


def scores_latex(experiment: Experiment, arms: Sequence[Arm]) -> str:
    """A tabular of the package booktabs: test accuracy in percent, of all classes (their mean) and by shot group."""
    header = [*map(_latex, experiment.axes), *(_LATEX_NAMES[name] for name in _CSV_NAMES.values())]
    lines = [
        "% needs \\usepackage{booktabs}; mean and sample standard deviation over the seeds",
        f"\\begin{{tabular}}{{{'l' * len(experiment.axes)}{'c' * len(REPORTED_SCORES)}}}",
        "\\toprule",
        _line(header),
        "\\midrule",
        *(_line([*map(_latex, arm.levels.values()), *(_number(arm, s) for s in REPORTED_SCORES)]) for arm in arms),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _number(arm: Arm, score: str) -> str:
    if (mean := arm.mean(score)) is None:
        return "--"
    deviation = arm.deviation(score)
    return f"${100 * mean:.1f}$" if deviation is None else f"${100 * mean:.1f} \\pm {100 * deviation:.1f}$"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
