"""The report as Markdown: findings, tables and links to the figures, all made from the rows of the results table."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.studies.arms import REPORTED_SCORES, Arm, arms_of, published_order
from longtail.spark_jobs.studies.findings import findings
from longtail.spark_jobs.studies.terminal import mean_and_deviation
from longtail.spark_jobs.studies.trial_row import Row


def report_markdown(
    experiment: Experiment,
    rows: Sequence[Row],
    *,
    num_planned: int,
    figures: Mapping[str, str],
    source: Callable[[str], str],
) -> str:
    """The report as Markdown.

    rows: of the results table, at least one
    num_planned: trials that the experiment has
    figures: caption by name
    source: link to a figure's image, by name
    """
    arms = arms_of(experiment, rows)
    sections = [
        f"# {experiment.title}",
        experiment.about.strip(),
        _circumstances(experiment, rows, num_planned),
        "## Test accuracy",
        "In percent, at the last epoch: mean ± sample standard deviation over the seeds.",
        _scores_table(experiment, arms),
        "## Findings",
        *(f"- {finding}" for finding in findings(experiment, rows)),
        *_comparison_with_the_paper(experiment, arms, rows),
        *_copies(rows),
    ]
    sections += [f"## {caption}\n\n![{caption}]({source(name)})" for name, caption in figures.items()]
    sections += ["## Trials", _trials_table(experiment, rows)]
    return _joined(section for section in sections if section) + "\n"


def _circumstances(experiment: Experiment, rows: Sequence[Row], num_planned: int) -> str:
    first, last = (datetime.fromtimestamp(pick(row["finished_at"] for row in rows), UTC) for pick in (min, max))
    versions = sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()})
    commits = sorted({row["git_commit"][:10] for row in rows if row["git_commit"]})
    machines = sorted({row["machine"] for row in rows})
    options = ", ".join(f"{name} {value}" for name, value in experiment.options.items())
    times = [row["seconds"] for row in rows if row["seconds"] is not None]
    lines = [
        f"{len(rows)} of {num_planned} trials are finished, seeds {', '.join(map(str, experiment.seeds))}.",
        f"Options of all trials: {options}.",
        f"Finished from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC on {'; '.join(machines)}; "
        f"{', '.join(versions)}" + (f"; commit {', '.join(commits)}." if commits else "."),
    ]
    if times:
        lines.append(f"The last steps of the trials took {sum(times) / 60:.0f} minutes in total.")
    return " ".join(lines)


def _scores_table(experiment: Experiment, arms: Sequence[Arm]) -> str:
    columns = {**REPORTED_SCORES, "pseudo_label_accuracy": "correct pseudo-labels"}
    shown = {score: title for score, title in columns.items() if any(arm.mean(score) is not None for arm in arms)}
    body = [
        [*arm.levels.values(), str(len(arm.rows)), *(mean_and_deviation(arm, score) for score in shown)] for arm in arms
    ]
    return _table([*experiment.axes, "seeds", *shown.values()], body, numbers_from=len(experiment.axes))


def _comparison_with_the_paper(experiment: Experiment, arms: Sequence[Arm], rows: Sequence[Row]) -> list[str]:
    published = [(arm, error) for arm in arms if (error := experiment.published_error(arm.levels)) is not None]
    if not published:
        return []
    body = [[*arm.levels.values(), f"{error:.2f}", _error(arm), str(len(arm.rows))] for arm, error in published]
    agreeing, num_pairs = published_order(experiment, arms)
    order = f"Of {num_pairs} pairs of these arms, {agreeing} have the paper's order."
    return [
        "## Comparison with the paper",
        "Top-1 error in percent (Yang & Xu, NeurIPS 2020). The paper trains for 200 epochs on the full data set; this "
        f"experiment: {_setting(rows)}. {order}",
        _table([*experiment.axes, "paper", "this experiment", "seeds"], body, numbers_from=len(experiment.axes)),
    ]


def _copies(rows: Sequence[Row]) -> list[str]:
    """Images that the sets have twice: a test image among the training images makes the scores too good."""
    trials = Counter(line for row in rows for line in row["copies"] or [])
    if not trials:
        return []
    lines = [f"- {line} ({num} of {len(rows)} trials)" for line, num in trials.items()]
    about = "Near copies are the same picture encoded again or resized."
    return ["## Images that the data sets have twice", about, "\n".join(lines)]


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
    levels = [tuple(arm.levels.values()) for arm in arms_of(experiment, rows)]
    ordered = sorted(rows, key=lambda row: (levels.index(tuple(row["levels"].values())), row["seed"]))
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
    """A Markdown table, whose columns from numbers_from on are right-aligned."""
    rules = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in (header, rules, *body))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _joined(sections: Iterable[str]) -> str:
    """Sections separated by empty lines, except between the items of a list."""
    text = ""
    for section in sections:
        gap = "\n" if section.startswith("- ") and text.rpartition("\n")[2].startswith("- ") else "\n\n"
        text += (gap if text else "") + section
    return text
