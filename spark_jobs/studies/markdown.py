"""The report as Markdown: what the experiment says, tables and links to the figures, all made from its trials."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.steps.report_files import CSV_FILE, LATEX_FILE, TRIALS_FILE
from longtail.spark_jobs.studies.arms import REPORTED_SCORES, Arm, arms_of, published_order
from longtail.spark_jobs.studies.budgets import budget_cells, budget_sentence, budgets_of_rows
from longtail.spark_jobs.studies.findings import (
    COMPARED_SCORES,
    DIFFERENCE_HEADER,
    NUM_TEXT_COLUMNS,
    compared,
    difference_cells,
    findings,
    how_to_read,
)
from longtail.spark_jobs.studies.label_gains import label_gains
from longtail.spark_jobs.studies.markdown_labels import right_labels_section
from longtail.spark_jobs.studies.markdown_parts import joined, markdown_table
from longtail.spark_jobs.studies.power import power_statements
from longtail.spark_jobs.studies.terminal import mean_and_deviation
from longtail.spark_jobs.studies.trial_row import Row
from longtail.spark_jobs.studies.words import words_used

DIFFERENCES = "differences"
"""Name of the figure of paired differences, which stands with the findings."""


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
    drawn = {name: f"## {caption}\n\n![{caption}]({source(name)})" for name, caption in figures.items()}
    return joined(
        section
        for section in [
            f"# {experiment.title}",
            experiment.about.strip(),
            "## What it says",
            *(f"- {finding}" for finding in findings(experiment, rows)),
            *_notes(rows),
            *_differences(experiment, rows, drawn.pop(DIFFERENCES, "")),
            "## Test accuracy",
            "In percent, at the last epoch: mean ± sample standard deviation over the seeds. The same as "
            f"[CSV]({CSV_FILE}) and [LaTeX]({LATEX_FILE}).",
            _scores_table(experiment, arms),
            budget_sentence(budgets_of_rows(rows)),
            *_comparison_with_the_paper(experiment, arms, rows),
            *_copies(rows),
            *drawn.values(),
            *right_labels_section(label_gains(experiment, rows)),
            "## Circumstances",
            _circumstances(experiment, rows, num_planned),
            "## Trials",
            f"All that this report is made of is in [{TRIALS_FILE}]({TRIALS_FILE}).",
            _trials_table(experiment, rows),
        ]
        if section
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    """What rows lack, and why."""
    notes = Counter(row["note"] for row in rows if row["note"])
    return [f"**{number} of {len(rows)} trials:** {note}" for note, number in notes.items()]


def _differences(experiment: Experiment, rows: Sequence[Row], figure: str) -> list[str]:
    """The comparisons: picture, table, how to read them, and which differences the seeds can show."""
    by_score = compared(experiment, rows)
    if not any(by_score.values()):
        return []
    body = [difference_cells(comparison) for comparisons in by_score.values() for comparison in comparisons]
    table = markdown_table(DIFFERENCE_HEADER, body, numbers_from=NUM_TEXT_COLUMNS)
    num_seeds = len({row["seed"] for row in rows})
    power = [
        f"{COMPARED_SCORES[score]}: {statement}"
        for score, comparisons in by_score.items()
        if comparisons  # no figures of few-shot classes where there are none
        for statement in power_statements(experiment, rows, num_seeds=num_seeds, score=score)
    ]
    return [
        figure,
        table,
        how_to_read(by_score),
        "The words:",
        *words_used(f"{experiment.title}\n{experiment.about}\n{table}"),
        "## Which differences these seeds can show",
        *(f"- {statement}" for statement in power),
    ]


def _circumstances(experiment: Experiment, rows: Sequence[Row], num_planned: int) -> str:
    versions = sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()})
    commits = sorted({row["git_commit"][:10] for row in rows if row["git_commit"]})
    machines = sorted({row["machine"] for row in rows})
    options = ", ".join(f"{name} {value}" for name, value in experiment.options.items())
    times = [row["seconds"] for row in rows if row["seconds"] is not None]
    lines = [
        f"{len(rows)} of {num_planned} trials are finished, {_seeds_of(experiment, rows)}.",
        f"Options of all trials: {options}.",
        f"Finished {_period(rows)}on {'; '.join(machines)}; "
        f"{', '.join(versions)}" + (f"; commit {', '.join(commits)}." if commits else "."),
    ]
    if times:
        minutes = round(sum(times) / 60)
        lines.append(f"The last steps of the trials took {minutes} minute{'s' * (minutes != 1)} in total.")
    return " ".join(lines)


def _seeds_of(experiment: Experiment, rows: Sequence[Row]) -> str:
    """The seeds that have trials, and those of the file that have none yet."""
    there = sorted({row["seed"] for row in rows})
    missing = [seed for seed in experiment.seeds if seed not in there]
    text = f"seed{'s' * (len(there) != 1)} {', '.join(map(str, there))}"
    return f"{text}; none of {', '.join(map(str, missing))}" if missing else text


def _period(rows: Sequence[Row]) -> str:
    """From the first to the last finished trial; empty if that is not known."""
    ends = [datetime.fromtimestamp(row["finished_at"], UTC) for row in rows if row["finished_at"] is not None]
    return f"from {min(ends):%Y-%m-%d %H:%M} to {max(ends):%Y-%m-%d %H:%M} UTC " if ends else ""


def _scores_table(experiment: Experiment, arms: Sequence[Arm]) -> str:
    columns = {**REPORTED_SCORES, "pseudo_label_accuracy": "correct pseudo-labels"}
    shown = {score: title for score, title in columns.items() if any(arm.mean(score) is not None for arm in arms)}
    budgets = [budget_cells(arm.rows) for arm in arms]
    body = [
        [
            *arm.levels.values(),
            str(len(arm.rows)),
            *budget.values(),
            *(mean_and_deviation(arm, score) for score in shown),
        ]
        for arm, budget in zip(arms, budgets, strict=True)
    ]
    header = [*experiment.axes, "seeds", *budgets[0], *shown.values()]
    return markdown_table(header, body, numbers_from=len(experiment.axes))


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
        markdown_table(
            [*experiment.axes, "paper", "this experiment", "seeds"], body, numbers_from=len(experiment.axes)
        ),
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
    counts = [row["class_counts"] for row in rows if row["pseudo_label_accuracy"] is None]
    head = {max(of_row) for of_row in counts if of_row}
    sizes = f", head class of {', '.join(map(str, sorted(head)))} labelled images" if head else ""
    return f"{', '.join(sorted(archs))}, {', '.join(map(str, sorted(epochs)))} epochs{sizes}"


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
    return markdown_table(header, body, numbers_from=len(experiment.axes))
