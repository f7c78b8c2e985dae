"""The words and tables of a report, as Markdown. Every sentence is made from the rows; none is there without them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.studies.comparisons import (
    CONFIDENCE,
    SCORES,
    Arm,
    Comparison,
    Row,
    arms,
    compare,
    published_order,
)
from longtail.spark_jobs.studies.terminal import mean_and_deviation

_COMPARED = {"balanced_accuracy": "balanced accuracy", "few_shot_accuracy": "few-shot accuracy"}


def report_markdown(
    experiment: Experiment,
    rows: Sequence[Row],
    *,
    num_planned: int,
    figures: Mapping[str, str],
    source: Callable[[str], str],
) -> str:
    """The report. figures: by name, what each shows; source: what an image's link is, by the figure's name."""
    found = arms(experiment, rows)
    sections = [
        f"# {experiment.title}",
        experiment.about.strip(),
        _how(experiment, rows, num_planned),
        "## Test accuracy",
        "In percent, at the last epoch: mean and sample standard deviation over the seeds.",
        _scores_table(experiment, found),
        "## What the data says",
        *(f"- {sentence}" for sentence in sentences(experiment, rows)),
        *_beside_the_paper(experiment, found, rows),
    ]
    sections += [f"## {caption}\n\n![{caption}]({source(name)})" for name, caption in figures.items()]
    sections += ["## The trials", _trials_table(experiment, rows)]
    return _joined(section for section in sections if section) + "\n"


def sentences(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """What each level does against the first of its axis, and whether the data supports that it does anything."""
    said = []
    for axis, levels in experiment.axes.items():
        for level in list(levels)[1:]:
            for score, name in _COMPARED.items():
                if (comparison := compare(experiment, rows, axis=axis, level=level, score=score)) is not None:
                    said.append(_sentence(comparison, name))
    return said or ["No axis has trials at two levels: there is nothing to compare."]


def _sentence(comparison: Comparison, score: str) -> str:
    what = f"{comparison.axis}: {comparison.level} against {comparison.against}, {score}"
    change = f"{100 * comparison.mean:+.1f} points over {comparison.num_pairs} pairs ({comparison.num_seeds} seeds)"
    higher = sum(difference > 0 for difference in comparison.by_setting.values())
    settings = f"higher in {higher} of {len(comparison.by_setting)} settings of the other axes"
    if comparison.low is None or comparison.high is None or comparison.p_value is None:
        return f"{what}: {change}; {settings}. No test (too few pairs, one seed, or all alike): the data does not tell."
    interval = f"{CONFIDENCE:.0%} interval {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
    test = f"t-test p {'< 0.001' if comparison.p_value < 0.001 else f'= {comparison.p_value:.3f}'}"
    verdict = "the data does not tell whether it helps"
    if comparison.is_supported:
        verdict = f"the data supports a {'gain' if comparison.mean > 0 else 'loss'}"
    return f"{what}: {change}, {interval}, {test}; {settings}: **{verdict}**."


def _how(experiment: Experiment, rows: Sequence[Row], num_planned: int) -> str:
    first, last = (datetime.fromtimestamp(pick(row["finished_at"] for row in rows), UTC) for pick in (min, max))
    versions = sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()})
    commits = sorted({row["git_commit"][:10] for row in rows if row["git_commit"]})
    machines = sorted({row["machine"] for row in rows})
    options = ", ".join(f"{name} {value}" for name, value in experiment.options.items())
    times = [row["seconds"] for row in rows if row["seconds"] is not None]
    lines = [
        f"{len(rows)} of {num_planned} trials are finished, seeds {', '.join(map(str, experiment.seeds))}.",
        f"Options of all: {options}.",
        f"Finished from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC on {'; '.join(machines)}; "
        f"{', '.join(versions)}" + (f"; commit {', '.join(commits)}." if commits else "."),
    ]
    if times:
        lines.append(f"The last steps of the trials took {sum(times) / 60:.0f} minutes together.")
    return " ".join(lines)


def _scores_table(experiment: Experiment, found: Sequence[Arm]) -> str:
    columns = {**SCORES, "pseudo_label_accuracy": "pseudo-labels right"}
    shown = {score: title for score, title in columns.items() if any(arm.mean(score) is not None for arm in found)}
    body = [
        [*arm.levels.values(), str(len(arm.rows)), *(mean_and_deviation(arm, score) for score in shown)]
        for arm in found
    ]
    return _table([*experiment.axes, "seeds", *shown.values()], body, numbers_from=len(experiment.axes))


def _beside_the_paper(experiment: Experiment, found: Sequence[Arm], rows: Sequence[Row]) -> list[str]:
    published = [(arm, error) for arm in found if (error := experiment.published_error(arm.levels)) is not None]
    if not published:
        return []
    body = [[*arm.levels.values(), f"{error:.2f}", _error(arm), str(len(arm.rows))] for arm, error in published]
    agreeing, num_pairs = published_order(experiment, found)
    order = f"Of {num_pairs} pairs of these arms, {agreeing} are in the paper's order."
    return [
        "## Beside the paper",
        "Top-1 error in percent (Yang & Xu, NeurIPS 2020). The paper trains for 200 epochs on the full data set; here: "
        f"{_setting(rows)}. {order}",
        _table([*experiment.axes, "paper", "here", "seeds"], body, numbers_from=len(experiment.axes)),
    ]


def _error(arm: Arm) -> str:
    accuracy, deviation = arm.mean("accuracy"), arm.deviation("accuracy")
    assert accuracy is not None, "every trial has an accuracy"
    return f"{100 * (1 - accuracy):.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _setting(rows: Sequence[Row]) -> str:
    epochs, archs = ({row[name] for row in rows} for name in ("epochs", "arch"))
    head = {max(row["class_counts"]) for row in rows if row["pseudo_label_accuracy"] is None}
    return (
        f"{', '.join(sorted(archs))}, {', '.join(map(str, sorted(epochs)))} epochs, head class of "
        f"{', '.join(map(str, sorted(head)))} labelled images"
    )


def _trials_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    order = {names: place for place, names in enumerate(tuple(arm.levels.values()) for arm in arms(experiment, rows))}
    ordered = sorted(rows, key=lambda row: (order[tuple(row["levels"].values())], row["seed"]))
    header = [*experiment.axes, "seed", "balanced accuracy", "few-shot", "run"]
    body = [
        [
            *row["levels"].values(), str(row["seed"]), percent(row["balanced_accuracy"]),
            percent(row["few_shot_accuracy"]), row["run"],
        ]
        for row in ordered
    ]  # fmt: skip
    return _table(header, body, numbers_from=len(experiment.axes))


def _table(header: Sequence[str], body: Sequence[Sequence[str]], *, numbers_from: int) -> str:
    """A Markdown table; columns from numbers_from on are aligned to the right."""
    rules = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in (header, rules, *body))


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


def _joined(sections: Any) -> str:
    """Sections apart by an empty line; the lines of a list stay together."""
    text = ""
    for section in sections:
        gap = "\n" if section.startswith("- ") and text.rpartition("\n")[2].startswith("- ") else "\n\n"
        text += (gap if text else "") + section
    return text
