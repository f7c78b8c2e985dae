"""One page that compares all experiments with a report in a directory: what each says about its axes.

    OUTPUT_DIR/index.html, OUTPUT_DIR/index.md

It is made of the tables of trials that the reports keep, and made anew with every report.
"""

from collections.abc import Mapping
from functools import partial

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location
from longtail.conf.experiment import Experiment
from longtail.spark_jobs.steps.report_files import TRIALS_FILE
from longtail.spark_jobs.studies.comparisons import CONFIDENCE
from longtail.spark_jobs.studies.findings import (
    CANNOT_TELL,
    DIFFERENCE_HEADER,
    NUM_TEXT_COLUMNS,
    compared,
    difference_cells,
    verdict,
)
from longtail.spark_jobs.studies.kept_trials import kept_trials
from longtail.spark_jobs.studies.markdown_parts import joined, markdown_table
from longtail.spark_jobs.studies.report import page_of
from longtail.spark_jobs.studies.trial_row import Row
from longtail.spark_jobs.studies.words import words_used

_TITLE = "What the experiments say"
_HEADER = ("experiment", *DIFFERENCE_HEADER)
_NUM_TEXT_COLUMNS = 1 + NUM_TEXT_COLUMNS


def write_overview(output_dir: Location) -> Location:
    """Write the pages of the reports in a directory; return that of HTML. A damaged table is named and left out."""
    found: dict[str, tuple[Experiment, list[Row]]] = {}
    for file in sorted(output_dir.glob(f"[!._]*/{TRIALS_FILE}")):
        try:
            found[file.parent.name] = kept_trials(file)
        except UserError as error:
            print(f"left out of the page of all reports: {error}")
    for suffix, text in (
        ("md", overview_markdown(found, link="report.md")),
        ("html", page_of(_TITLE, overview_markdown(found, link="report.html"))),
    ):
        try:
            write_atomically(output_dir / f"index.{suffix}", partial(_write, text))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {output_dir}: {reason}; choose another --output_dir") from None
    return output_dir / "index.html"


def overview_markdown(experiments: Mapping[str, tuple[Experiment, list[Row]]], *, link: str) -> str:
    """The page as Markdown. experiments: definition and rows by name; link: the file of a report"""
    decided: list[list[str]] = []
    undecided: list[list[str]] = []
    for name, (experiment, rows) in experiments.items():
        for comparison in (one for found in compared(experiment, rows).values() for one in found):
            line = [f"[{name}]({name}/{link})", *difference_cells(comparison)]
            (undecided if verdict(comparison) == CANNOT_TELL else decided).append(line)
    number = len(decided) + len(undecided)
    by_chance = round(number * (1 - CONFIDENCE))
    chance = f"some {by_chance}" if by_chance else "less than one"
    cells = "\n".join(" ".join(line) for line in (*decided, *undecided))
    return joined(
        section
        for section in [
            f"# {_TITLE}",
            f"{number} comparisons of a level with the first of its axis, paired by seed and by the levels of the "
            f"other axes; experiments: {len(experiments)}; differences in points. {len(decided)} are a gain or a loss: "
            f"with no effect anywhere it would be {chance}. Each report says how the words are meant.",
            "The words:",
            *words_used(cells),
            "## Gains and losses",
            markdown_table(_HEADER, decided, numbers_from=_NUM_TEXT_COLUMNS) if decided else "None.",
            "## Can't tell",
            markdown_table(_HEADER, undecided, numbers_from=_NUM_TEXT_COLUMNS) if undecided else "None.",
            "## The experiments",
            *(
                f"- [{name}]({name}/{link}): {_sentence(experiment.title)} {len(rows)} of "
                f"{len(experiment.trials())} trials, {_seeds(len({row['seed'] for row in rows}))}."
                for name, (experiment, rows) in experiments.items()
            ),
        ]
    )


def _sentence(title: str) -> str:
    return title if title[-1] in ".?!" else f"{title}."


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number != 1)}"


def _write(text: str, file: Location) -> None:
    file.write_text(text, encoding="utf-8")
